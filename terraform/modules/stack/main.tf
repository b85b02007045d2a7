# One region, whole: network, cluster, database, cache, broker, bucket, identities, edge, secrets, alarms.

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}
data "aws_partition" "here" {}

locals {
  account = data.aws_caller_identity.here.account_id
  prefix  = coalesce(var.secrets_prefix, var.name)
  # Whether the store tells of uploads by itself.
  notifications = var.uploads_package != null
  root          = "arn:${data.aws_partition.here.partition}:iam::${local.account}:root"
}

# One key for all that is kept. The account's own policies decide who uses it; services of AWS use it for what is ours.
data "aws_iam_policy_document" "key" {
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = [local.root]
    }
  }
  statement {
    sid       = "Logs"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${data.aws_region.here.region}.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${data.aws_partition.here.partition}:logs:${data.aws_region.here.region}:${local.account}:log-group:*"]
    }
  }
  statement {
    sid       = "Messages"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com", "s3.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
  # The nodes' disks are made by the autoscaling service.
  statement {
    sid       = "Disks"
    actions   = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey", "kms:CreateGrant"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.here.partition}:iam::${local.account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"]
    }
  }
}

resource "aws_kms_key" "this" {
  description             = "Orrery ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this.key_id
}

module "network" {
  source       = "../network"
  name         = var.name
  cidr         = var.cidr
  zones        = var.zones
  nat_per_zone = var.size.nat_per_zone
  endpoints    = var.endpoints
  kms_key_arn  = aws_kms_key.this.arn
}

module "cluster" {
  source              = "../cluster"
  name                = var.name
  subnet_ids          = module.network.private_subnet_ids
  api_cidrs           = var.api_cidrs
  administrators      = var.administrators
  node_types          = var.size.node_types
  ami_type            = var.size.ami_type
  nodes_min           = var.size.nodes_min
  nodes_max           = var.size.nodes_max
  kms_key_arn         = aws_kms_key.this.arn
  deletion_protection = var.deletion_protection
}

module "database" {
  source                   = "../database"
  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  zones                    = module.network.zones
  client_security_group_id = module.cluster.security_group_id
  instance_class           = var.size.database_class
  instances                = var.size.database_instances
  password                 = module.secrets.database_password
  kms_key_arn              = aws_kms_key.this.arn
  deletion_protection      = var.deletion_protection
  global_cluster_id        = var.global_cluster_id
  secondary                = var.secondary
}

module "cache" {
  source                   = "../cache"
  name                     = var.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  node_type                = var.size.cache_type
  nodes                    = var.size.cache_nodes
  password                 = module.secrets.cache_password
  kms_key_arn              = aws_kms_key.this.arn
}

module "broker" {
  source                    = "../broker"
  name                      = var.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.database_subnet_ids
  client_security_group_id  = module.cluster.security_group_id
  instance_type             = var.size.broker_type
  cluster                   = var.size.broker_cluster
  password                  = module.secrets.broker_password
  uploads                   = local.notifications
  uploads_security_group_id = module.bucket.bridge_security_group_id
  kms_key_arn               = aws_kms_key.this.arn
}

module "bucket" {
  source        = "../bucket"
  name          = "${var.name}-${local.account}-${data.aws_region.here.region}"
  kms_key_arn   = aws_kms_key.this.arn
  force_destroy = !var.deletion_protection

  notifications       = local.notifications
  bridge_package      = var.uploads_package
  bridge_secret_arn   = module.secrets.uploads_arn
  bridge_vpc_id       = module.network.vpc_id
  bridge_subnet_ids   = module.network.private_subnet_ids
  bridge_broker_cidrs = module.network.database_cidrs
  bridge_secret_cidrs = contains(var.endpoints, "secretsmanager") ? module.network.private_cidrs : ["0.0.0.0/0"]
}

module "edge" {
  source                    = "../edge"
  name                      = var.name
  host                      = var.host
  zone_id                   = var.zone_id
  records                   = var.records
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.public_subnet_ids
  cluster_security_group_id = module.cluster.security_group_id
  client_cidrs              = var.client_cidrs
  deletion_protection       = var.deletion_protection
}

module "secrets" {
  source            = "../secrets"
  prefix            = local.prefix
  uploads           = local.notifications
  shared            = var.shared_secrets
  database_endpoint = module.database.endpoint
  database_ca_file  = var.database_ca_file
  broker_host       = module.broker.host
  cache_endpoint    = module.cache.endpoint
  access_keys       = module.identity.access_keys
  kms_key_arn       = aws_kms_key.this.arn
  recovery_days     = var.deletion_protection ? 30 : 0
}

module "identity" {
  source           = "../identity"
  name             = var.name
  namespace        = var.namespace
  cluster_name     = module.cluster.name
  cluster_arn      = module.cluster.arn
  bucket_arn       = module.bucket.arn
  kms_key_arn      = aws_kms_key.this.arn
  secret_arns      = module.secrets.arns
  target_group_arn = module.edge.target_group_arn
}

module "observe" {
  source              = "../observe"
  name                = var.name
  cluster_name        = module.cluster.with_nodes
  follows             = var.secondary
  kms_key_arn         = aws_kms_key.this.arn
  mail                = var.alarm_mail
  budget_usd          = var.budget_usd
  database_cluster_id = module.database.cluster_id
  broker_name         = module.broker.name
  broker_memory_bytes = var.size.broker_memory_bytes
  cache_id            = module.cache.id
  balancer_suffix     = module.edge.suffix
  target_group_suffix = module.edge.target_group_suffix
}
