output "arns" {
  description = "The secrets of the pods."
  value       = [for name, secret in aws_secretsmanager_secret.this : secret.arn if contains(keys(local.keys), name)]
}

output "uploads_arn" {
  description = "The secret of the function that tells of uploads, where there is one."
  value       = one([for name, secret in aws_secretsmanager_secret.this : secret.arn if name == "uploads"])
}

output "database_password" {
  description = "Of the user orrery."
  value       = local.shared.database
  sensitive   = true
}

output "broker_password" {
  description = "Of RabbitMQ's administrator."
  value       = random_password.broker.result
  sensitive   = true
}

output "cache_password" {
  description = "Of Valkey."
  value       = random_password.cache.result
  sensitive   = true
}

output "keys" {
  description = "The keys of each secret of the pods."
  value       = local.keys
}
