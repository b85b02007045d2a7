variable "name" {
  description = "The load balancer's name."
  type        = string
}

variable "host" {
  description = "How people reach it, such as accounts.example.org."
  type        = string
}

variable "zone_id" {
  description = "The hosted zone of the host."
  type        = string
}

variable "records" {
  description = "Whether the host leads here."
  type        = bool
  default     = true
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Public subnets."
  type        = list(string)
}

variable "cluster_security_group_id" {
  description = "The group of the pods."
  type        = string
}

variable "gateway_port" {
  description = "Where the gateway listens."
  type        = number
  default     = 8080
}

variable "client_cidrs" {
  description = "Networks that may reach it."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "requests_per_minute" {
  description = "Of one address; the gateway's own limits are lower, by route."
  type        = number
  default     = 3000
}

variable "deletion_protection" {
  description = "Whether destroying it is refused."
  type        = bool
  default     = true
}

variable "access_log_bucket" {
  description = "A bucket for lines about each request, which hold addresses; none: none are kept."
  type        = string
  default     = null
}
