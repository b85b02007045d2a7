# Development: small: one zone of what costs most, and nothing that protects it from being destroyed.

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "orrery", environment = "development" }
  }
}

module "stack" {
  source              = "../../modules/stack"
  name                = "orrery-deve"
  host                = var.host
  zone_id             = var.zone_id
  zones               = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
  environment         = "development"
  namespace           = "orrery-development"
  administrators      = var.administrators
  alarm_mail          = var.alarm_mail
  budget_usd          = 500
  deletion_protection = false
  endpoints           = []
  api_cidrs           = var.office_cidrs
  client_cidrs        = var.office_cidrs

  size = {
    node_types          = ["t4g.large"]
    ami_type            = "AL2023_ARM_64_STANDARD"
    nodes_min           = 2
    nodes_max           = 3
    nat_per_zone        = false
    database_class      = "db.serverless"
    database_instances  = 1
    cache_type          = "cache.t4g.micro"
    cache_nodes         = 1
    broker_type         = "mq.t3.micro"
    broker_cluster      = false
    broker_memory_bytes = 300000000
  }
}

output "values" {
  description = "Values of the Helm chart."
  value       = module.stack.values
}

output "target_group_arn" {
  description = "For the TargetGroupBinding."
  value       = module.stack.target_group_arn
}
