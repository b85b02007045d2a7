# Two regions: the second has a database that follows the first's and a whole stack beside it that waits. A name that is checked leads to the first
# while it is well. How to fail over and back, and what is lost at worst: docs/operate/regions.md.

resource "random_bytes" "master" {
  length = 32
}

resource "random_bytes" "mail" {
  length = 32
}

resource "random_bytes" "discovery" {
  length = 32
}

resource "random_password" "database" {
  length  = 40
  special = false
}

locals {
  # What one region sealed, the other has to open.
  shared = {
    master    = random_bytes.master.base64
    mail      = random_bytes.mail.base64
    discovery = random_bytes.discovery.base64
    database  = random_password.database.result
  }
}

resource "aws_rds_global_cluster" "this" {
  provider                  = aws.first
  global_cluster_identifier = var.name
  engine                    = "aurora-postgresql"
  engine_version            = var.engine_version
  database_name             = "orrery"
  storage_encrypted         = true
  deletion_protection       = var.deletion_protection

  lifecycle {
    # Set when its first cluster joins.
    ignore_changes = [database_name]
  }
}

module "first" {
  source              = "../stack"
  providers           = { aws = aws.first }
  name                = "${var.name}-1"
  host                = var.host
  zone_id             = var.zone_id
  records             = false
  namespace           = var.namespace
  cidr                = var.first_cidr
  zones               = var.first_zones
  size                = var.size
  api_cidrs           = var.api_cidrs
  administrators      = var.administrators
  alarm_mail          = var.alarm_mail
  budget_usd          = var.budget_usd
  deletion_protection = var.deletion_protection
  shared_secrets      = local.shared
  global_cluster_id   = aws_rds_global_cluster.this.id
}

module "second" {
  source              = "../stack"
  providers           = { aws = aws.second }
  name                = "${var.name}-2"
  host                = var.host
  zone_id             = var.zone_id
  records             = false
  namespace           = var.namespace
  cidr                = var.second_cidr
  zones               = var.second_zones
  size                = var.size
  api_cidrs           = var.api_cidrs
  administrators      = var.administrators
  alarm_mail          = var.alarm_mail
  budget_usd          = 0
  deletion_protection = var.deletion_protection
  shared_secrets      = local.shared
  # A reading region joins a global database that has a writer.
  global_cluster_id = module.first.joined
  secondary         = true
}

# The first region is well while its gateway says that it is ready, which needs its database.
resource "aws_route53_health_check" "this" {
  provider          = aws.first
  for_each          = { first = module.first.edge.dns_name, second = module.second.edge.dns_name }
  type              = "HTTPS"
  fqdn              = "${each.key}.${var.host}"
  port              = 443
  resource_path     = "/health/ready"
  request_interval  = 10
  failure_threshold = 3
  measure_latency   = false
  enable_sni        = true
  tags              = { Name = "${var.name}-${each.key}" }
}

# Names of the regions themselves, for checks and for operators.
resource "aws_route53_record" "region" {
  provider = aws.first
  for_each = { first = module.first.edge, second = module.second.edge }
  zone_id  = var.zone_id
  name     = "${each.key}.${var.host}"
  type     = "A"
  alias {
    name                   = each.value.dns_name
    zone_id                = each.value.zone_id
    evaluate_target_health = false
  }
}

resource "aws_route53_record" "host" {
  provider        = aws.first
  for_each        = { first = module.first.edge, second = module.second.edge }
  zone_id         = var.zone_id
  name            = var.host
  type            = "A"
  set_identifier  = each.key
  health_check_id = aws_route53_health_check.this[each.key].id

  failover_routing_policy {
    type = each.key == "first" ? "PRIMARY" : "SECONDARY"
  }

  alias {
    name                   = each.value.dns_name
    zone_id                = each.value.zone_id
    evaluate_target_health = true
  }
}
