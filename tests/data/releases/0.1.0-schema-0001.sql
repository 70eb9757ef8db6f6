BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE api_keys (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	user_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	prefix VARCHAR NOT NULL, 
	key_hash BLOB NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	expires_at TIMESTAMP, 
	revoked_at TIMESTAMP, 
	last_used_at TIMESTAMP, 
	models TEXT, 
	routes TEXT, 
	project_id INTEGER, 
	is_trusted BOOLEAN DEFAULT 0 NOT NULL, 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(user_id) REFERENCES users (id), 
	UNIQUE (key_hash)
);
CREATE TABLE inflight (
	request_id BLOB NOT NULL, 
	writer INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	model VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	started_at TIMESTAMP NOT NULL, 
	stream BOOLEAN NOT NULL, 
	api_key_id INTEGER, 
	project_id INTEGER, 
	end_user VARCHAR, 
	client_request_id VARCHAR, 
	upstream VARCHAR, 
	price_id INTEGER, 
	prompt_estimate INTEGER, 
	PRIMARY KEY (request_id)
);
CREATE TABLE llm_metrics (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	user_id INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	endpoint TEXT NOT NULL, 
	prompt_tokens INTEGER, 
	response_tokens INTEGER, 
	total_tokens INTEGER, 
	duration_ms INTEGER, 
	tokens_per_second FLOAT, 
	cached BOOLEAN DEFAULT 0, 
	error BOOLEAN DEFAULT 0, 
	error_message TEXT, 
	user_rating INTEGER CHECK (user_rating IN (-1, 0, 1)), 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, 
	request_id BLOB, 
	started_at TIMESTAMP, 
	status INTEGER, 
	error_code VARCHAR, 
	finish_reason VARCHAR, 
	stream BOOLEAN, 
	estimated BOOLEAN DEFAULT 0, 
	cached_prompt_tokens INTEGER, 
	ttft_ms INTEGER, 
	queue_ms INTEGER, 
	load_ms INTEGER, 
	prompt_ms INTEGER, 
	generation_ms INTEGER, 
	cost_nusd BIGINT, 
	prompt_cost_nusd BIGINT, 
	response_cost_nusd BIGINT, 
	saved_nusd BIGINT, 
	price_id INTEGER, 
	upstream VARCHAR, 
	attempts INTEGER DEFAULT 1, 
	api_key_id INTEGER, 
	project_id INTEGER, 
	end_user VARCHAR, 
	client_request_id VARCHAR, 
	FOREIGN KEY(price_id) REFERENCES prices (id), 
	FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "llm_metrics" VALUES(1,1,'llama3:8b','/api/chat',25000,50000,75000,900,55555.556,0,0,NULL,1,'2026-11-24 10:00:00.000',X'01A20D667D557000A8B8DE3579B60F88','2026-11-24 09:59:59.100',200,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,18750000,3750000,15000000,NULL,2,NULL,1,NULL,NULL,NULL,NULL);
INSERT INTO "llm_metrics" VALUES(2,2,'phi4','/api/chat',3,4,7,90,44.444,0,0,NULL,NULL,'2026-11-24 10:00:00.000',X'01A20D667D5A7000A0960F5AD749D6E8','2026-11-24 09:59:59.910',200,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL);
INSERT INTO "llm_metrics" VALUES(3,2,'llama3','/api/chat',NULL,NULL,NULL,5,NULL,0,1,'upstream died',NULL,'2026-11-24 10:00:00.000',X'01A20D667D5B70009CAFA90F273A1C2F','2026-11-24 09:59:59.995',500,'error',NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL);
CREATE TABLE prices (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	model VARCHAR NOT NULL, 
	input_nusd_per_1k BIGINT NOT NULL, 
	output_nusd_per_1k BIGINT NOT NULL, 
	cached_input_nusd_per_1k BIGINT, 
	request_nusd BIGINT DEFAULT 0 NOT NULL, 
	compute_nusd_per_second BIGINT DEFAULT 0 NOT NULL, 
	effective_at TIMESTAMP NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	created_by INTEGER, 
	source VARCHAR DEFAULT ('') NOT NULL, 
	withdrawn_at TIMESTAMP, 
	withdrawn_by INTEGER, 
	FOREIGN KEY(created_by) REFERENCES users (id), 
	FOREIGN KEY(withdrawn_by) REFERENCES users (id)
);
INSERT INTO "prices" VALUES(1,'llama2',100000,200000,NULL,0,0,'2026-11-24 10:00:00.000','2026-11-24 10:00:00.000',NULL,'GemmaPy''s own default, 2025-10-29: a nominal rate for local models, to be replaced by what yours cost',NULL,NULL);
INSERT INTO "prices" VALUES(2,'llama3',150000,300000,NULL,0,0,'2026-11-24 10:00:00.000','2026-11-24 10:00:00.000',NULL,'GemmaPy''s own default, 2025-10-29: a nominal rate for local models, to be replaced by what yours cost',NULL,NULL);
INSERT INTO "prices" VALUES(3,'mistral',100000,200000,NULL,0,0,'2026-11-24 10:00:00.000','2026-11-24 10:00:00.000',NULL,'GemmaPy''s own default, 2025-10-29: a nominal rate for local models, to be replaced by what yours cost',NULL,NULL);
CREATE TABLE project_members (
	project_id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	PRIMARY KEY (project_id, user_id), 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE TABLE projects (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	archived_at TIMESTAMP, 
	UNIQUE (name)
);
CREATE TABLE revisions (
	subject VARCHAR NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (subject)
);
INSERT INTO "revisions" VALUES('people',2);
INSERT INTO "revisions" VALUES('prices',1);
CREATE TABLE users (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	username VARCHAR, 
	password_hash VARCHAR, 
	is_admin BOOLEAN DEFAULT 0 NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	disabled_at TIMESTAMP, 
	deleted_at TIMESTAMP, 
	sessions_from TIMESTAMP, 
	UNIQUE (username)
);
INSERT INTO "users" VALUES(1,'ada','x',1,'2026-11-24 10:00:00.000',NULL,NULL,NULL);
INSERT INTO "users" VALUES(2,'bob','x',0,'2026-11-24 10:00:00.000',NULL,NULL,NULL);
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id);
CREATE INDEX idx_prices_model ON prices (model, effective_at);
CREATE INDEX idx_metrics_created ON llm_metrics (created_at);
CREATE INDEX idx_metrics_model ON llm_metrics (model);
CREATE UNIQUE INDEX idx_metrics_request ON llm_metrics (request_id);
CREATE INDEX idx_metrics_user ON llm_metrics (user_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('users',2);
INSERT INTO "sqlite_sequence" VALUES('prices',3);
INSERT INTO "sqlite_sequence" VALUES('llm_metrics',3);
COMMIT;
