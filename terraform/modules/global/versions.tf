terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source                = "hashicorp/aws"
      version               = "~> 6.0"
      configuration_aliases = [aws.first, aws.second]
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
}
