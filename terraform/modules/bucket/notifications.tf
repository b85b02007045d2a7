# Uploads that the store tells of: bucket -> queue -> function -> RabbitMQ. Off by default: autha tells of them by itself.

locals {
  bridge = var.notifications ? 1 : 0
}

resource "aws_sqs_queue" "failed" {
  count                     = local.bridge
  name                      = "${var.name}-uploads-failed"
  message_retention_seconds = 1209600
  kms_master_key_id         = var.kms_key_arn
}

resource "aws_sqs_queue" "uploads" {
  count                      = local.bridge
  name                       = "${var.name}-uploads"
  message_retention_seconds  = 604800
  visibility_timeout_seconds = 180
  kms_master_key_id          = var.kms_key_arn
  # What cannot be published for half an hour is kept for an operator.
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.failed[0].arn, maxReceiveCount = 10 })
}

data "aws_iam_policy_document" "uploads" {
  count = local.bridge
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.uploads[0].arn]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.this.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "uploads" {
  count     = local.bridge
  queue_url = aws_sqs_queue.uploads[0].url
  policy    = data.aws_iam_policy_document.uploads[0].json
}

resource "aws_s3_bucket_notification" "this" {
  count  = local.bridge
  bucket = aws_s3_bucket.this.id

  queue {
    queue_arn     = aws_sqs_queue.uploads[0].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "avatars/"
  }

  depends_on = [aws_sqs_queue_policy.uploads]
}

data "aws_iam_policy_document" "bridge_trust" {
  count = local.bridge
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "bridge" {
  count = local.bridge
  statement {
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
    resources = [aws_sqs_queue.uploads[0].arn]
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [var.bridge_secret_arn]
  }
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.bridge[0].arn}:*"]
  }
}

resource "aws_cloudwatch_log_group" "bridge" {
  count             = local.bridge
  name              = "/aws/lambda/${var.name}-uploads"
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

resource "aws_iam_role" "bridge" {
  count              = local.bridge
  name               = "${var.name}-uploads"
  assume_role_policy = data.aws_iam_policy_document.bridge_trust[0].json
}

resource "aws_iam_role_policy" "bridge" {
  count  = local.bridge
  name   = "publish"
  role   = aws_iam_role.bridge[0].id
  policy = data.aws_iam_policy_document.bridge[0].json
}

# A function in the network needs interfaces there.
data "aws_partition" "here" {}

resource "aws_iam_role_policy_attachment" "bridge" {
  count      = local.bridge
  role       = aws_iam_role.bridge[0].name
  policy_arn = "arn:${data.aws_partition.here.partition}:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

# The function reaches RabbitMQ and the secret of its address, and nothing reaches it.
resource "aws_security_group" "bridge" {
  count       = local.bridge
  name        = "${var.name}-uploads"
  description = "The function that tells RabbitMQ of uploads"
  vpc_id      = var.bridge_vpc_id
  tags        = { Name = "${var.name}-uploads" }
}

resource "aws_vpc_security_group_egress_rule" "bridge_broker" {
  for_each          = local.bridge == 1 ? toset(var.bridge_broker_cidrs) : toset([])
  security_group_id = aws_security_group.bridge[0].id
  description       = "RabbitMQ"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 5671
  to_port           = 5671
}

resource "aws_vpc_security_group_egress_rule" "bridge_secret" {
  for_each          = local.bridge == 1 ? toset(var.bridge_secret_cidrs) : toset([])
  security_group_id = aws_security_group.bridge[0].id
  description       = "Secrets Manager"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# bridge/handler.py with pika beside it, zipped: pip install pika -t DIR && cp handler.py DIR && (cd DIR && zip -r ../bridge.zip .)
resource "aws_lambda_function" "bridge" {
  count                          = local.bridge
  function_name                  = "${var.name}-uploads"
  role                           = aws_iam_role.bridge[0].arn
  filename                       = var.bridge_package
  source_code_hash               = filebase64sha256(var.bridge_package)
  handler                        = "handler.handler"
  runtime                        = "python3.13"
  architectures                  = ["arm64"]
  timeout                        = 30
  memory_size                    = 128
  reserved_concurrent_executions = 5
  kms_key_arn                    = var.kms_key_arn

  environment {
    variables = { BROKER_SECRET = var.bridge_secret_arn }
  }

  vpc_config {
    subnet_ids         = var.bridge_subnet_ids
    security_group_ids = [aws_security_group.bridge[0].id]
  }


  tracing_config {
    mode = "PassThrough"
  }

  depends_on = [aws_iam_role_policy.bridge]
}

resource "aws_lambda_event_source_mapping" "bridge" {
  count                   = local.bridge
  event_source_arn        = aws_sqs_queue.uploads[0].arn
  function_name           = aws_lambda_function.bridge[0].arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]
}
