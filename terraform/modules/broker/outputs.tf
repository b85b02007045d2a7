output "host" {
  description = "The address of AMQP over TLS (port 5671) and of the management plugin (port 443)."
  value       = split(":", split("//", aws_mq_broker.this.instances[0].endpoints[0])[1])[0]
}

output "name" {
  description = "For alarms."
  value       = aws_mq_broker.this.broker_name
}
