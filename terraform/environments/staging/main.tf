# Staging: as production, smaller: one NAT gateway, one broker.

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "orrery", environment = "staging" }
  }
}

module "stack" {
  source              = "../../modules/stack"
  name                = "orrery-stag"
  host                = var.host
  zone_id             = var.zone_id
  zones               = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
  environment         = "staging"
  namespace           = "orrery-staging"
  administrators      = var.administrators
  alarm_mail          = var.alarm_mail
  budget_usd          = 1200
  deletion_protection = true
  api_cidrs           = var.office_cidrs
  client_cidrs        = var.office_cidrs

  size = {
    node_types          = ["m7g.large"]
    ami_type            = "AL2023_ARM_64_STANDARD"
    nodes_min           = 2
    nodes_max           = 4
    nat_per_zone        = false
    database_class      = "db.t4g.medium"
    database_instances  = 2
    cache_type          = "cache.t4g.micro"
    cache_nodes         = 1
    broker_type         = "mq.m5.large"
    broker_cluster      = false
    broker_memory_bytes = 2500000000
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
