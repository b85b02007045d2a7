terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }
  # The state holds secrets: an encrypted, private, versioned bucket, given by `-backend-config`.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
