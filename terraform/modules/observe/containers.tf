# What containers log, and the figures of nodes and pods, at CloudWatch. The services' lines name no people (docs/security.md).

locals {
  # The add-on writes to groups of these names; made here they have a key and an end.
  groups = {
    application = var.log_days # what containers write
    dataplane   = 30           # kubelet, the container runtime, the network plug-in
    host        = 30           # the nodes
    performance = 30           # figures, which become metrics
  }
}

resource "aws_cloudwatch_log_group" "cluster" {
  for_each          = local.groups
  name              = "/aws/containerinsights/${var.name}/${each.key}"
  retention_in_days = each.value
  kms_key_id        = var.kms_key_arn
}

data "aws_iam_policy_document" "agent_trust" {
  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks-cluster-name"
      values   = [var.name]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = ["amazon-cloudwatch"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = ["cloudwatch-agent"]
    }
  }
}

# It writes to those groups, and looks up disks and names of the nodes; describing knows no resources. Figures come out of lines in `performance`.
data "aws_iam_policy_document" "agent" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = flatten([for group in aws_cloudwatch_log_group.cluster : [group.arn, "${group.arn}:*"]])
  }
  statement {
    actions   = ["ec2:DescribeVolumes", "ec2:DescribeTags"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "agent" {
  name               = "${var.name}-logs"
  assume_role_policy = data.aws_iam_policy_document.agent_trust.json
}

resource "aws_iam_role_policy" "agent" {
  name   = "write"
  role   = aws_iam_role.agent.id
  policy = data.aws_iam_policy_document.agent.json
}

resource "aws_eks_addon" "observability" {
  cluster_name                = var.cluster_name
  addon_name                  = "amazon-cloudwatch-observability"
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # No Application Signals, which would put an agent into the services' pods; Prometheus has what the services themselves tell.
  configuration_values = jsonencode({
    agent         = { config = { logs = { metrics_collected = { kubernetes = { enhanced_container_insights = false } } } } }
    containerLogs = { enabled = true }
  })

  pod_identity_association {
    role_arn        = aws_iam_role.agent.arn
    service_account = "cloudwatch-agent"
  }

  depends_on = [aws_cloudwatch_log_group.cluster, aws_iam_role_policy.agent]
}
