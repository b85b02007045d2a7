output "role_arns" {
  description = "The role of each service account."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "access_keys" {
  description = "Access keys for S3, by service."
  sensitive   = true
  value       = { for name, key in aws_iam_access_key.storage : name => { id = key.id, secret = key.secret } }
}
