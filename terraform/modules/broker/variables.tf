variable "name" {
  description = "The broker's name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Database subnets, one per zone."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Who may connect."
  type        = string
}

variable "engine_version" {
  description = "Of RabbitMQ: 3.13 or later, whose quorum queues Orrery uses."
  type        = string
  default     = "3.13"
}

variable "instance_type" {
  description = "Of each node; a cluster needs mq.m5.large or larger."
  type        = string
}

variable "cluster" {
  description = "Three nodes in three zones; otherwise one, whose disk is all there is."
  type        = bool
}

variable "password" {
  description = "Of the administrator: 12 to 250 characters."
  type        = string
  sensitive   = true
}

variable "kms_key_arn" {
  description = "The key that encrypts it."
  type        = string
}

variable "uploads" {
  description = "Whether a function tells of uploads."
  type        = bool
  default     = false
}

variable "uploads_security_group_id" {
  description = "The group of that function."
  type        = string
  default     = null
}
