# One role per service account that needs something of AWS, bound by EKS pod identity, with the least that it needs. maily, partners, discovery,
# console and the gateway need nothing, and have no role.

data "aws_iam_policy_document" "trust" {
  for_each = local.accounts
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
    # Pods of this account in this namespace of this cluster, and no others.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [var.cluster_arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = [each.value.namespace]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = [each.value.account]
    }
  }
}

# autha writes uploads, reads pictures, and sweeps what no row names.
data "aws_iam_policy_document" "autha" {
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${var.bucket_arn}/avatars/*"]
  }
  statement {
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }
  statement {
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

# spinoza reads originals and writes variants.
data "aws_iam_policy_document" "spinoza" {
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    resources = ["${var.bucket_arn}/avatars/*"]
  }
  statement {
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }
  statement {
    actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

# External Secrets reads the secrets of this installation and no others.
data "aws_iam_policy_document" "secrets" {
  statement {
    actions   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
    resources = var.secret_arns
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

# The load balancer's controller registers the gateway's pods with this target group. Describing knows no resources.
data "aws_iam_policy_document" "balancer" {
  statement {
    actions   = ["elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DeregisterTargets"]
    resources = [var.target_group_arn]
  }
  statement {
    actions = [
      "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "elasticloadbalancing:DescribeLoadBalancers",
      "ec2:DescribeAvailabilityZones", "ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
    ]
    resources = ["*"]
  }
}

locals {
  accounts = {
    autha    = { namespace = var.namespace, account = "autha", policy = data.aws_iam_policy_document.autha.json }
    spinoza  = { namespace = var.namespace, account = "spinoza", policy = data.aws_iam_policy_document.spinoza.json }
    secrets  = { namespace = "external-secrets", account = "external-secrets", policy = data.aws_iam_policy_document.secrets.json }
    balancer = { namespace = "kube-system", account = "aws-load-balancer-controller", policy = data.aws_iam_policy_document.balancer.json }
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.accounts
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.accounts
  name     = "least"
  role     = aws_iam_role.this[each.key].id
  policy   = each.value.policy
}

resource "aws_eks_pod_identity_association" "this" {
  for_each        = local.accounts
  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.account
  role_arn        = aws_iam_role.this[each.key].arn
}

# The binary signs requests to S3 with an access key of its own (storage.access_key); it does not take a pod's identity yet. Until it does, a
# user per service with the same policy as its role. access_keys = false removes them.
resource "aws_iam_user" "storage" {
  for_each = var.access_keys ? toset(["autha", "spinoza"]) : toset([])
  name     = "${var.name}-${each.key}-storage"
  path     = "/orrery/"
}

resource "aws_iam_user_policy" "storage" {
  for_each = aws_iam_user.storage
  name     = "least"
  user     = each.value.name
  policy   = local.accounts[each.key].policy
}

resource "aws_iam_access_key" "storage" {
  for_each = aws_iam_user.storage
  user     = each.value.name
}
