variable "name" {
  description = "What roles begin with."
  type        = string
}

variable "namespace" {
  description = "The namespace of the services."
  type        = string
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "cluster_arn" {
  description = "The cluster, to whose pods the roles are trusted."
  type        = string
}

variable "bucket_arn" {
  description = "The bucket of pictures."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of the bucket and of secrets."
  type        = string
}

variable "secret_arns" {
  description = "The secrets of this installation."
  type        = list(string)
}

variable "target_group_arn" {
  description = "The load balancer's targets."
  type        = string
}

variable "access_keys" {
  description = "Whether autha and spinoza get access keys for S3."
  type        = bool
  default     = true
}
