CREATE TABLE "harbor" ("Harbor_ID" INTEGER PRIMARY KEY, "Name" TEXT, "Country" TEXT, "Depth" REAL);
CREATE TABLE "ferry" ("Ferry_ID" INTEGER PRIMARY KEY, "Name" TEXT, "Home_ID" INTEGER, "Seats" INTEGER, "Built" INTEGER,
  FOREIGN KEY ("Home_ID") REFERENCES "harbor" ("Harbor_ID"));
INSERT INTO "harbor" VALUES (1,'Lund','Norway',8.5),(2,'Vika','Norway',12.0),(3,'Port Alba','Scotland',9.25),(4,'Tern','Iceland',6.0);
INSERT INTO "ferry" VALUES (1,'Osprey',1,120,1998),(2,'Gannet',2,340,2007),(3,'Puffin',2,80,1985),(4,'Skua',3,210,2012),(5,'Petrel',1,340,2019);
