CREATE TABLE "choir" ("Choir_ID" INTEGER PRIMARY KEY, "Name" TEXT, "Town" TEXT, "Members" INTEGER);
CREATE TABLE "song" ("Song_ID" INTEGER PRIMARY KEY, "Title" TEXT, "Minutes" REAL);
CREATE TABLE "performance" ("Choir_ID" INTEGER, "Song_ID" INTEGER, "Score" INTEGER, "Year" INTEGER,
  FOREIGN KEY ("Choir_ID") REFERENCES "choir" ("Choir_ID"), FOREIGN KEY ("Song_ID") REFERENCES "song" ("Song_ID"));
INSERT INTO "choir" VALUES (1,'Echo','Riva',24),(2,'Canto','Riva',40),(3,'Bel Air','Sorn',18),(4,'Alto','Melk',31);
INSERT INTO "song" VALUES (1,'Evening',3.5),(2,'Harvest',4.0),(3,'The Mill',2.75);
INSERT INTO "performance" VALUES (1,1,87,2021),(1,2,91,2022),(2,1,78,2021),(2,3,95,2022),(3,2,66,2022),(3,2,70,2023);
