"""The tables of `memory`.

    cell       (skill, difficulty) and how many episodes it holds
    task       one row per distinct task that has an episode; attempts and solved count its remembered episodes
    episode    one attempt: round, completion, reward, digest of the adapter that wrote it
    tally      the numbers of `episodes.Counts` per (round, skill, difficulty), for the last ``window`` rounds

Triggers keep the counts of ``cell`` and ``task``, and remove their rows with their last episode: no way of deleting
episodes can forget to. The tally has none: it outlives the episodes it counted.
"""

from __future__ import annotations

FORMAT = 2  # PRAGMA user_version of the file

SCHEMA = f"""
CREATE TABLE cell (
    id INTEGER PRIMARY KEY, skill TEXT NOT NULL, difficulty INTEGER NOT NULL, episodes INTEGER NOT NULL,
    UNIQUE (skill, difficulty));
CREATE TABLE task (
    id INTEGER PRIMARY KEY, cell INTEGER NOT NULL, prompt TEXT NOT NULL, answer TEXT NOT NULL, origin TEXT NOT NULL,
    lot INTEGER NOT NULL, attempts INTEGER NOT NULL, solved INTEGER NOT NULL,
    UNIQUE (cell, prompt, answer, origin));
CREATE INDEX task_ever_solved ON task (cell, id) WHERE solved > 0;
CREATE INDEX task_sometimes_solved ON task (lot, id) WHERE solved > 0 AND solved < attempts;
CREATE TABLE episode (
    id INTEGER PRIMARY KEY, task INTEGER NOT NULL, cell INTEGER NOT NULL, round INTEGER NOT NULL,
    attempt TEXT NOT NULL, reward REAL NOT NULL, solved INTEGER NOT NULL, policy BLOB NOT NULL);
CREATE INDEX episode_of_task ON episode (task, solved);
CREATE INDEX episode_of_cell ON episode (cell);
CREATE INDEX episode_of_round ON episode (round);
CREATE TABLE tally (
    round INTEGER NOT NULL, skill TEXT NOT NULL, difficulty INTEGER NOT NULL,
    attempts INTEGER NOT NULL, solved INTEGER NOT NULL, groups INTEGER NOT NULL, mixed INTEGER NOT NULL,
    PRIMARY KEY (round, skill, difficulty)) WITHOUT ROWID;
CREATE TRIGGER remembered AFTER INSERT ON episode BEGIN
    UPDATE task SET attempts = attempts + 1, solved = solved + NEW.solved WHERE id = NEW.task;
    UPDATE cell SET episodes = episodes + 1 WHERE id = NEW.cell;
END;
CREATE TRIGGER forgotten AFTER DELETE ON episode BEGIN
    UPDATE task SET attempts = attempts - 1, solved = solved - OLD.solved WHERE id = OLD.task;
    DELETE FROM task WHERE id = OLD.task AND attempts = 0;
    UPDATE cell SET episodes = episodes - 1 WHERE id = OLD.cell;
    DELETE FROM cell WHERE id = OLD.cell AND episodes = 0;
END;
PRAGMA user_version = {FORMAT};
"""
