-- How often an effect may have happened without its mark: its claim ended by itself, or its handler could not tell.
ALTER TABLE bus.inbox ADD COLUMN doubts integer NOT NULL DEFAULT 0;
CREATE INDEX inbox_doubts ON bus.inbox (handler) WHERE doubts > 0;
