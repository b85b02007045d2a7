# RabbitMQ: three nodes in three zones, so that quorum queues survive one; TLS alone; not reachable from outside.

resource "aws_security_group" "this" {
  name        = "${var.name}-broker"
  description = "RabbitMQ"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-broker" }
}

# AMQP over TLS, and the management plugin, which migrate and the console use.
resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each                     = { amqps = 5671, management = 443 }
  security_group_id            = aws_security_group.this.id
  description                  = "${each.key} from the cluster"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

# The function that tells of uploads, where there is one: AMQP alone.
resource "aws_vpc_security_group_ingress_rule" "uploads" {
  count                        = var.uploads ? 1 : 0
  security_group_id            = aws_security_group.this.id
  description                  = "amqps from the function that tells of uploads"
  referenced_security_group_id = var.uploads_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5671
  to_port                      = 5671
}

resource "aws_mq_broker" "this" {
  broker_name                = var.name
  engine_type                = "RabbitMQ"
  engine_version             = var.engine_version
  host_instance_type         = var.instance_type
  deployment_mode            = var.cluster ? "CLUSTER_MULTI_AZ" : "SINGLE_INSTANCE"
  subnet_ids                 = var.cluster ? var.subnet_ids : slice(var.subnet_ids, 0, 1)
  security_groups            = [aws_security_group.this.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  apply_immediately          = false
  authentication_strategy    = "simple"

  encryption_options {
    use_aws_owned_key = false
    kms_key_id        = var.kms_key_arn
  }

  logs {
    general = true
  }

  maintenance_window_start_time {
    day_of_week = "SUNDAY"
    time_of_day = "05:00"
    time_zone   = "UTC"
  }

  # The administrator. `orrery migrate` makes the user of the services, with the rights that they need.
  user {
    username = "admin"
    password = var.password
  }
}
