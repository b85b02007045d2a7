variable "name" {
  description = "The bucket's name, unique in the world."
  type        = string
}

variable "kms_key_arn" {
  description = "The key that encrypts objects and messages."
  type        = string
}

variable "removed_days" {
  description = "For how long a removed object can be brought back."
  type        = number
  default     = 7
}

variable "force_destroy" {
  description = "Whether destroying it destroys its objects."
  type        = bool
  default     = false
}

variable "notifications" {
  description = "Whether the store tells of uploads (storage.uploaded_events = notifications)."
  type        = bool
  default     = false
}

variable "bridge_package" {
  description = "The zipped function, with notifications."
  type        = string
  default     = null
}

variable "bridge_secret_arn" {
  description = "The secret with broker-url, with notifications."
  type        = string
  default     = null
}

variable "bridge_subnet_ids" {
  description = "Private subnets of the function, with notifications."
  type        = list(string)
  default     = []
}

variable "bridge_vpc_id" {
  description = "The network of the function, with notifications."
  type        = string
  default     = null
}

variable "bridge_broker_cidrs" {
  description = "Where RabbitMQ is, with notifications."
  type        = list(string)
  default     = []
}

variable "bridge_secret_cidrs" {
  description = "Where Secrets Manager is, with notifications: its endpoint inside of the network, or everywhere without one."
  type        = list(string)
  default     = []
}
