DROP TABLE IF EXISTS partners.audit;
