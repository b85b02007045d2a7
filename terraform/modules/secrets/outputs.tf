output "arns" {
  description = "The secrets."
  value       = [for secret in aws_secretsmanager_secret.this : secret.arn]
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
  description = "The keys of each secret."
  value       = local.keys
}
