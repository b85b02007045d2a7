# What is written into the secrets, which no plan shows.
variables {
  prefix            = "orrery-test"
  database_endpoint = "database.example"
  broker_host       = "broker.example"
  cache_endpoint    = "cache.example"
  kms_key_arn       = "arn:aws:kms:eu-central-1:123456789012:key/1"
  access_keys       = { autha = { id = "AUTHA", secret = "A" }, spinoza = { id = "SPINOZA", secret = "S" } }
}

run "made_here" {
  command = apply

  assert {
    condition     = alltrue([for name in ["migrate", "autha", "spinoza", "maily", "discovery"] : can(regex("^postgres://orrery:[^@]+@database.example:5432/orrery\\?sslmode=require$", jsondecode(aws_secretsmanager_secret_version.this[name].secret_string)["database-url"]))])
    error_message = "a service reaches the database without TLS or elsewhere"
  }
  assert {
    condition     = alltrue([for name in ["migrate", "autha", "spinoza", "maily", "discovery"] : can(regex("^amqps://orrery:[^@]+@broker.example:5671/%2f$", jsondecode(aws_secretsmanager_secret_version.this[name].secret_string)["broker-url"]))])
    error_message = "a service reaches the broker without TLS or elsewhere"
  }
  assert {
    condition     = can(regex("^rediss://:[^@]+@cache.example:6379$", jsondecode(aws_secretsmanager_secret_version.this["redis"].secret_string)["url"]))
    error_message = "the cache is reached without TLS"
  }
  assert {
    condition     = can(regex("^https://admin:", jsondecode(aws_secretsmanager_secret_version.this["migrate"].secret_string)["management-url"]))
    error_message = "the management plugin is reached without TLS"
  }
  assert {
    condition     = jsondecode(aws_secretsmanager_secret_version.this["spinoza"].secret_string)["storage-access-key"] == "SPINOZA" && jsondecode(aws_secretsmanager_secret_version.this["autha"].secret_string)["storage-access-key"] == "AUTHA"
    error_message = "a service has another's key"
  }
  assert {
    condition     = length(distinct([for key in ["master-key", "mail-key"] : jsondecode(aws_secretsmanager_secret_version.this["autha"].secret_string)[key]])) == 2
    error_message = "two keys are one"
  }
  assert {
    condition     = jsondecode(aws_secretsmanager_secret_version.this["maily"].secret_string)["mail-key"] == jsondecode(aws_secretsmanager_secret_version.this["autha"].secret_string)["mail-key"]
    error_message = "maily cannot open what autha sealed"
  }
}

run "shared_and_verified" {
  command = apply
  variables {
    database_ca_file = "/etc/rds.pem"
    uploads          = true
    shared           = { master = "M", mail = "L", discovery = "D", database = "P" }
  }

  assert {
    condition     = jsondecode(aws_secretsmanager_secret_version.this["autha"].secret_string)["database-url"] == "postgres://orrery:P@database.example:5432/orrery?sslmode=verify-full&sslrootcert=/etc/rds.pem"
    error_message = "the database's certificate is not verified"
  }
  assert {
    condition     = jsondecode(aws_secretsmanager_secret_version.this["autha"].secret_string)["master-key"] == "M" && jsondecode(aws_secretsmanager_secret_version.this["discovery"].secret_string)["discovery-key"] == "D"
    error_message = "the regions have keys of their own"
  }
  assert {
    condition     = can(regex("^amqps://uploads:[^@]+@broker.example:5671/%2f$", jsondecode(aws_secretsmanager_secret_version.this["uploads"].secret_string)["broker-url"])) && !contains(output.arns, output.uploads_arn)
    error_message = "the function has no user of its own, or pods may read its secret"
  }
}
