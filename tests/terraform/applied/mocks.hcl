# What AWS would tell after an apply, where a random word would not do.
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_mq_broker" {
    defaults = { instances = [{ endpoints = ["amqps://broker.example:5671"] }] }
  }
  mock_resource "aws_rds_cluster" {
    defaults = { endpoint = "database.example" }
  }
  mock_resource "aws_elasticache_replication_group" {
    defaults = { primary_endpoint_address = "cache.example" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/orr-1/0123456789abcdef" }
  }
  mock_resource "aws_acm_certificate" {
    defaults = { domain_validation_options = [{ domain_name = "orrery.example", resource_record_name = "_x.orrery.example", resource_record_type = "CNAME", resource_record_value = "_y.acm.example" }] }
  }
