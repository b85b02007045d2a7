variable "region" {
  description = "Where it is."
  type        = string
  default     = "eu-central-1"
}

variable "host" {
  description = "How people reach it."
  type        = string
}

variable "zone_id" {
  description = "The hosted zone of the host."
  type        = string
}

variable "administrators" {
  description = "IAM roles whose holders administer the cluster."
  type        = list(string)
}

variable "alarm_mail" {
  description = "Addresses that alarms reach."
  type        = list(string)
}

variable "uploads_package" {
  description = "The zipped function of modules/bucket/bridge, when the store tells of uploads; none: autha does."
  type        = string
  default     = null
}
