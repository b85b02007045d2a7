output "name" {
  description = "The bucket."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "The bucket, once it keeps versions, without which nothing is replicated to or from it."
  value       = aws_s3_bucket.this.arn
  depends_on  = [aws_s3_bucket_versioning.this]
}

output "bridge_security_group_id" {
  description = "The function's group, with notifications; RabbitMQ has to let it in."
  value       = one(aws_security_group.bridge[*].id)
}
