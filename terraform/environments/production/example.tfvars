host           = "orrery.example"
zone_id        = "Z0123456789ABCDEFGHIJ"
administrators = ["arn:aws:iam::123456789012:role/operators"]
alarm_mail     = ["operators@orrery.example"]
