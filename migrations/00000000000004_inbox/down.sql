DROP INDEX bus.inbox_doubts;
ALTER TABLE bus.inbox DROP COLUMN doubts;
