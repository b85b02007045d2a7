# Production: three zones of everything.

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "orrery", environment = "production" }
  }
}

module "stack" {
  source              = "../../modules/stack"
  name                = "orrery-prod"
  host                = var.host
  zone_id             = var.zone_id
  zones               = [for letter in ["a", "b", "c"] : "${var.region}${letter}"]
  namespace           = "orrery-production"
  administrators      = var.administrators
  alarm_mail          = var.alarm_mail
  budget_usd          = 2600
  deletion_protection = true
  uploads_package     = var.uploads_package

  size = {
    node_types          = ["m7g.large"]
    ami_type            = "AL2023_ARM_64_STANDARD"
    nodes_min           = 3
    nodes_max           = 9
    nat_per_zone        = true
    database_class      = "db.r8g.large"
    database_instances  = 2
    cache_type          = "cache.t4g.small"
    cache_nodes         = 2
    broker_type         = "mq.m5.large"
    broker_cluster      = true
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
