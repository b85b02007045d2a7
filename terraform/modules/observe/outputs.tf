output "topic_arn" {
  description = "Where alarms go."
  value       = aws_sns_topic.alarms.arn
}

output "log_group" {
  description = "Where the services' logs go."
  value       = aws_cloudwatch_log_group.cluster["application"].name
}
