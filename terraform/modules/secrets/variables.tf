variable "prefix" {
  description = "What names begin with; External Secrets reads PREFIX/autha and so on."
  type        = string
}

variable "uploads" {
  description = "Whether a function tells of uploads, which has a secret of its own."
  type        = bool
  default     = false
}

variable "shared" {
  description = "Keys and password of another region of the same installation: master, mail, discovery (base64 of 32 bytes each), database; none: made here."
  type        = object({ master = string, mail = string, discovery = string, database = string })
  default     = null
}

variable "database_endpoint" {
  description = "The writer."
  type        = string
}

variable "database_ca_file" {
  description = "Where pods have the authorities of RDS as PEM (verify-full); none: TLS without looking at who answers (require)."
  type        = string
  default     = null
}

variable "broker_host" {
  description = "RabbitMQ."
  type        = string
}

variable "cache_endpoint" {
  description = "Valkey."
  type        = string
}

variable "access_keys" {
  description = "Access keys for S3, by service."
  type        = map(object({ id = string, secret = string }))
  sensitive   = true
}

variable "kms_key_arn" {
  description = "The key that encrypts them."
  type        = string
}

variable "recovery_days" {
  description = "For how long a destroyed secret can be brought back."
  type        = number
  default     = 30
}
