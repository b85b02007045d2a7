# Pictures go both ways: a region that took over writes to its own bucket, and the other has them when it is back.

locals {
  pairs = {
    first  = { from = module.first.bucket, to = module.second.bucket }
    second = { from = module.second.bucket, to = module.first.bucket }
  }
}

data "aws_iam_policy_document" "replication_trust" {
  provider = aws.first
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "replication" {
  provider = aws.first
  for_each = local.pairs
  statement {
    actions   = ["s3:GetReplicationConfiguration", "s3:ListBucket"]
    resources = [each.value.from.arn]
  }
  statement {
    actions   = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"]
    resources = ["${each.value.from.arn}/*"]
  }
  statement {
    actions   = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    resources = ["${each.value.to.arn}/*"]
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [each.value.from.kms_key_arn]
  }
  statement {
    actions   = ["kms:Encrypt", "kms:GenerateDataKey"]
    resources = [each.value.to.kms_key_arn]
  }
}

resource "aws_iam_role" "replication" {
  provider           = aws.first
  for_each           = local.pairs
  name               = "${var.name}-pictures-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.replication_trust.json
}

resource "aws_iam_role_policy" "replication" {
  provider = aws.first
  for_each = local.pairs
  name     = "replicate"
  role     = aws_iam_role.replication[each.key].id
  policy   = data.aws_iam_policy_document.replication[each.key].json
}

resource "aws_s3_bucket_replication_configuration" "first" {
  provider = aws.first
  bucket   = module.first.bucket.name
  role     = aws_iam_role.replication["first"].arn
  # Its own bucket has to keep versions, too.
  depends_on = [module.first]

  rule {
    id     = "pictures"
    status = "Enabled"
    filter {
      prefix = "avatars/"
    }
    delete_marker_replication {
      status = "Enabled"
    }
    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
      replica_modifications {
        status = "Enabled"
      }
    }
    destination {
      bucket = module.second.bucket.arn
      encryption_configuration {
        replica_kms_key_id = module.second.bucket.kms_key_arn
      }
      metrics {
        status = "Enabled"
        event_threshold {
          minutes = 15
        }
      }
      replication_time {
        status = "Enabled"
        time {
          minutes = 15
        }
      }
    }
  }
}

resource "aws_s3_bucket_replication_configuration" "second" {
  provider = aws.second
  bucket   = module.second.bucket.name
  role     = aws_iam_role.replication["second"].arn
  # Its own bucket has to keep versions, too.
  depends_on = [module.second]

  rule {
    id     = "pictures"
    status = "Enabled"
    filter {
      prefix = "avatars/"
    }
    delete_marker_replication {
      status = "Enabled"
    }
    source_selection_criteria {
      sse_kms_encrypted_objects {
        status = "Enabled"
      }
      replica_modifications {
        status = "Enabled"
      }
    }
    destination {
      bucket = module.first.bucket.arn
      encryption_configuration {
        replica_kms_key_id = module.first.bucket.kms_key_arn
      }
      metrics {
        status = "Enabled"
        event_threshold {
          minutes = 15
        }
      }
      replication_time {
        status = "Enabled"
        time {
          minutes = 15
        }
      }
    }
  }
}
