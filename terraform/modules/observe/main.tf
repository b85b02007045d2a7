# Alarms of what is managed by AWS, whom they reach, and a budget. What the services themselves tell is Prometheus' (kubernetes/components/monitoring).

data "aws_caller_identity" "here" {}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

data "aws_iam_policy_document" "alarms" {
  statement {
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]
    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_sns_topic_subscription" "mail" {
  for_each  = toset(var.mail)
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

locals {
  database = { DBClusterIdentifier = var.database_cluster_id }
  broker   = { Broker = var.broker_name }
  cache    = { ReplicationGroupId = var.cache_id }
  balancer = { LoadBalancer = var.balancer_suffix }
  targets  = { LoadBalancer = var.balancer_suffix, TargetGroup = var.target_group_suffix }

  # What somebody has to act on. Minutes are how long it has to hold.
  alarms = {
    database-processor   = { namespace = "AWS/RDS", metric = "CPUUtilization", dimensions = local.database, statistic = "Average", above = 85, minutes = 15, text = "the database is busy: larger instances, or look for a slow statement" }
    database-connections = { namespace = "AWS/RDS", metric = "DatabaseConnections", dimensions = local.database, statistic = "Maximum", above = var.database_connections, minutes = 10, text = "many connections: replicas times database.pool_size" }
    database-memory      = { namespace = "AWS/RDS", metric = "FreeableMemory", dimensions = local.database, statistic = "Minimum", below = 268435456, minutes = 15, text = "the database has little memory left" }
    database-lag         = { namespace = "AWS/RDS", metric = "AuroraReplicaLagMaximum", dimensions = local.database, statistic = "Maximum", above = 2000, minutes = 5, text = "readers are two seconds behind the writer" }
    broker-memory        = { namespace = "AWS/AmazonMQ", metric = "RabbitMQMemUsed", dimensions = local.broker, statistic = "Maximum", above = var.broker_memory_bytes, minutes = 5, text = "RabbitMQ is near its limit, and will hold publishers: orrery queues list" }
    broker-disk          = { namespace = "AWS/AmazonMQ", metric = "RabbitMQDiskFree", dimensions = local.broker, statistic = "Minimum", below = 10737418240, minutes = 5, text = "RabbitMQ's disk is filling: orrery queues list" }
    broker-backlog       = { namespace = "AWS/AmazonMQ", metric = "MessageReadyCount", dimensions = local.broker, statistic = "Minimum", above = 10000, minutes = 30, text = "messages wait for half an hour: orrery queues list" }
    cache-memory         = { namespace = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", dimensions = local.cache, statistic = "Maximum", above = 95, minutes = 30, text = "the cache is full and forgets limits early" }
    edge-errors          = { namespace = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count", dimensions = local.balancer, statistic = "Sum", above = 10, minutes = 5, text = "the load balancer finds no gateway" }
    gateway-errors       = { namespace = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", dimensions = local.balancer, statistic = "Sum", above = 50, minutes = 5, text = "the gateway answers with errors: /health/ready says what is down" }
    gateway-away         = { namespace = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = local.targets, statistic = "Minimum", below = 2, minutes = 3, text = "less than two gateways are ready" }
    gateway-slow         = { namespace = "AWS/ApplicationELB", metric = "TargetResponseTime", dimensions = local.balancer, statistic = "p99", above = 2, minutes = 10, text = "one answer of a hundred takes more than two seconds" }
  }
}

# Of the second of two regions: what a failover would lose (docs/operate/regions.md).
locals {
  followed = !var.follows ? {} : {
    region-lag = { namespace = "AWS/RDS", metric = "AuroraGlobalDBRPOLag", dimensions = local.database, statistic = "Maximum", above = 5000, minutes = 5, text = "the second region's database is five seconds behind: a failover would lose as much" }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = merge(local.alarms, local.followed)
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  comparison_operator = can(each.value.above) ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = try(each.value.above, each.value.below)
  period              = 60
  evaluation_periods  = each.value.minutes
  treat_missing_data  = each.key == "gateway-away" ? "breaching" : "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_budgets_budget" "month" {
  count        = var.budget_usd > 0 ? 1 : 0
  name         = "${var.name}-month"
  budget_type  = "COST"
  limit_amount = tostring(var.budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  notification {
    comparison_operator        = "GREATER_THAN"
    threshold                  = 80
    threshold_type             = "PERCENTAGE"
    notification_type          = "ACTUAL"
    subscriber_email_addresses = var.mail
    subscriber_sns_topic_arns  = [aws_sns_topic.alarms.arn]
  }

  notification {
    comparison_operator        = "GREATER_THAN"
    threshold                  = 100
    threshold_type             = "PERCENTAGE"
    notification_type          = "FORECASTED"
    subscriber_email_addresses = var.mail
    subscriber_sns_topic_arns  = [aws_sns_topic.alarms.arn]
  }
}
