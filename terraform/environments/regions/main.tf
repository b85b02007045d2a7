# Production in two regions.

provider "aws" {
  alias  = "first"
  region = var.first_region
  default_tags {
    tags = { project = "orrery", environment = "production" }
  }
}

provider "aws" {
  alias  = "second"
  region = var.second_region
  default_tags {
    tags = { project = "orrery", environment = "production" }
  }
}

module "global" {
  source         = "../../modules/global"
  providers      = { aws.first = aws.first, aws.second = aws.second }
  name           = "orrery"
  host           = var.host
  zone_id        = var.zone_id
  first_zones    = [for letter in ["a", "b", "c"] : "${var.first_region}${letter}"]
  second_zones   = [for letter in ["a", "b", "c"] : "${var.second_region}${letter}"]
  namespace      = "orrery-production"
  administrators = var.administrators
  alarm_mail     = var.alarm_mail
  budget_usd     = 5500

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

output "first" {
  description = "Values of the Helm chart in the first region."
  value       = module.global.first
}

output "second" {
  description = "Values of the Helm chart in the second region."
  value       = module.global.second
}

output "global_cluster" {
  description = "For a failover."
  value       = module.global.global_cluster
}
