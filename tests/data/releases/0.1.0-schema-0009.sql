BEGIN TRANSACTION;
CREATE TABLE adjustments (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	repricing_id INTEGER NOT NULL, 
	created_at TIMESTAMP NOT NULL, 
	metric_id INTEGER NOT NULL, 
	metric_created_at TIMESTAMP NOT NULL, 
	user_id INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	endpoint TEXT NOT NULL, 
	project_id INTEGER, 
	api_key_id INTEGER, 
	status INTEGER, 
	price_id INTEGER, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	FOREIGN KEY(price_id) REFERENCES prices (id), 
	FOREIGN KEY(repricing_id) REFERENCES repricings (id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0009');
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
	is_trusted BOOLEAN DEFAULT 0 NOT NULL, limit_concurrent INTEGER, limit_requests_per_minute INTEGER, limit_tokens_per_minute INTEGER, 
	FOREIGN KEY(project_id) REFERENCES projects (id), 
	FOREIGN KEY(user_id) REFERENCES users (id), 
	UNIQUE (key_hash)
);
PRAGMA writable_schema=ON;
INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)VALUES('table','chunk_words','chunk_words',0,'CREATE VIRTUAL TABLE chunk_words USING fts5(title, heading, body, tokenize = ''porter unicode61 remove_diacritics 2'')');
CREATE TABLE 'chunk_words_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO "chunk_words_config" VALUES('version',4);
CREATE TABLE 'chunk_words_content'(id INTEGER PRIMARY KEY, c0, c1, c2);
CREATE TABLE 'chunk_words_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO "chunk_words_data" VALUES(1,X'');
INSERT INTO "chunk_words_data" VALUES(10,X'00000000000000');
CREATE TABLE 'chunk_words_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
CREATE TABLE 'chunk_words_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
CREATE TABLE chunks (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	document_id INTEGER NOT NULL, 
	ordinal INTEGER NOT NULL, 
	start INTEGER NOT NULL, 
	"end" INTEGER NOT NULL, 
	heading TEXT NOT NULL, 
	embedding_model VARCHAR, 
	dimension INTEGER, 
	FOREIGN KEY(document_id) REFERENCES documents (id)
);
CREATE TABLE closings (
	month VARCHAR(7) NOT NULL, 
	closed_at TIMESTAMP NOT NULL, 
	closed_by INTEGER, 
	last_adjustment_id INTEGER NOT NULL, 
	requests INTEGER NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	adjustments_nusd BIGINT NOT NULL, 
	PRIMARY KEY (month), 
	FOREIGN KEY(closed_by) REFERENCES users (id)
);
CREATE TABLE collections (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	owner_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	shared_with_all BOOLEAN DEFAULT 0 NOT NULL, 
	project_id INTEGER, 
	embedding_model VARCHAR, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	FOREIGN KEY(owner_id) REFERENCES users (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE documents (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	collection_id INTEGER NOT NULL, 
	title TEXT NOT NULL, 
	source TEXT NOT NULL, 
	media_type VARCHAR NOT NULL, 
	metadata TEXT NOT NULL, 
	content TEXT NOT NULL, 
	content_hash BLOB NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	project_id INTEGER, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, stage VARCHAR DEFAULT 'here' NOT NULL, 
	FOREIGN KEY(collection_id) REFERENCES collections (id)
);
CREATE TABLE embeddings (
	chunk_id INTEGER NOT NULL, 
	vector BLOB NOT NULL, 
	PRIMARY KEY (chunk_id), 
	FOREIGN KEY(chunk_id) REFERENCES chunks (id)
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
	prompt_estimate INTEGER, requested_model TEXT, 
	PRIMARY KEY (request_id)
);
CREATE TABLE labels (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "labels" VALUES(1,'llama3:8b');
INSERT INTO "labels" VALUES(2,'/api/chat');
INSERT INTO "labels" VALUES(3,'phi4');
INSERT INTO "labels" VALUES(4,'llama3');
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
	client_request_id VARCHAR, requested_model TEXT, attempt_log TEXT, 
	FOREIGN KEY(price_id) REFERENCES prices (id), 
	FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "llm_metrics" VALUES(1,1,'llama3:8b','/api/chat',25000,50000,75000,900,55555.556,0,0,NULL,1,'2026-11-24 10:00:00.000',X'01A2123B36707000B6B89609FBA166E3',1795514399100,200,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,18750000,3750000,15000000,NULL,2,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "llm_metrics" VALUES(2,2,'phi4','/api/chat',3,4,7,90,44.444,0,0,NULL,NULL,'2026-11-24 10:00:00.000',X'01A2123B372D7000B917EA2D388A71AF',1795514399910,200,NULL,NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "llm_metrics" VALUES(3,2,'llama3','/api/chat',NULL,NULL,NULL,5,NULL,0,1,'upstream died',NULL,'2026-11-24 10:00:00.000',X'01A2123B37627000BCAFBAAA3C9BC7E6',1795514399995,500,'error',NULL,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE machines (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR NOT NULL, 
	upstreams TEXT NOT NULL, 
	watts_busy FLOAT NOT NULL, 
	watts_idle FLOAT NOT NULL, 
	kwh_nusd BIGINT NOT NULL, 
	purchase_nusd BIGINT NOT NULL, 
	lifetime_years FLOAT NOT NULL, 
	parallel INTEGER NOT NULL, 
	effective_at TIMESTAMP NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	created_by INTEGER, 
	note VARCHAR DEFAULT '' NOT NULL, 
	FOREIGN KEY(created_by) REFERENCES users (id)
);
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
CREATE TABLE repricings (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	created_at TIMESTAMP NOT NULL, 
	created_by INTEGER, 
	reason TEXT NOT NULL, 
	window_start TIMESTAMP NOT NULL, 
	window_end TIMESTAMP NOT NULL, 
	prices_at TIMESTAMP, 
	model TEXT, 
	user_id INTEGER, 
	project_id INTEGER, 
	unpriced_only BOOLEAN NOT NULL, 
	finished_at TIMESTAMP, 
	FOREIGN KEY(created_by) REFERENCES users (id)
);
CREATE TABLE retired_days (
	day INTEGER NOT NULL, 
	retired_at TIMESTAMP NOT NULL, 
	last_metric_id INTEGER NOT NULL, 
	deleted_at TIMESTAMP, 
	checksum VARCHAR NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (day)
);
CREATE TABLE revisions (
	subject VARCHAR NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (subject)
);
INSERT INTO "revisions" VALUES('people',2);
INSERT INTO "revisions" VALUES('prices',1);
INSERT INTO "revisions" VALUES('books',2);
CREATE TABLE rollup_changes (
	day INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (day)
);
INSERT INTO "rollup_changes" VALUES(1795478400,2);
CREATE TABLE rollup_details (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	endpoint_id INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (grain, bucket, user_id, project_id, model_id, endpoint_id, writer)
)
 WITHOUT ROWID

;
INSERT INTO "rollup_details" VALUES(3600,1795514400,1,0,1,2,0,1,0,0,0,0,0,0,0,0,25000,50000,0,75000,3750000,15000000,18750000,0,0,0,1,900,1,55555556,0,0,1,0,0);
INSERT INTO "rollup_details" VALUES(3600,1795514400,2,0,3,2,0,1,0,0,0,0,0,0,0,0,3,4,0,7,0,0,0,0,1,7,1,90,1,44444,0,0,0,0,0);
INSERT INTO "rollup_details" VALUES(3600,1795514400,2,0,4,2,0,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,5,0,0,0,0,0,0,0);
CREATE TABLE rollup_histograms (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	scope INTEGER NOT NULL, 
	name INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	bins BLOB NOT NULL, 
	PRIMARY KEY (grain, bucket, scope, name, writer)
)
 WITHOUT ROWID

;
INSERT INTO "rollup_histograms" VALUES(900,1795514400,0,0,0,X'005200E200560119227D238F30F73101010101010101');
INSERT INTO "rollup_histograms" VALUES(900,1795514400,1,1,0,X'0056017D238F30010101');
INSERT INTO "rollup_histograms" VALUES(900,1795514400,1,3,0,X'00E2001922F731010101');
INSERT INTO "rollup_histograms" VALUES(900,1795514400,1,4,0,X'00520001');
INSERT INTO "rollup_histograms" VALUES(900,1795514400,2,2,0,X'005200E200560119227D238F30F73101010101010101');
INSERT INTO "rollup_histograms" VALUES(3600,1795514400,3,1,0,X'0056017D238F30010101');
INSERT INTO "rollup_histograms" VALUES(3600,1795514400,3,2,0,X'005200E2001922F73101010101');
CREATE TABLE rollup_marks (
	id INTEGER NOT NULL CHECK (id = 1), 
	folded_until INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "rollup_marks" VALUES(1,1795514400);
CREATE TABLE rollup_models (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	endpoint_id INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (grain, bucket, model_id, endpoint_id, writer)
)
 WITHOUT ROWID

;
INSERT INTO "rollup_models" VALUES(900,1795514400,1,2,0,1,0,0,0,0,0,0,0,0,25000,50000,0,75000,3750000,15000000,18750000,0,0,0,1,900,1,55555556,0,0,1,0,0);
INSERT INTO "rollup_models" VALUES(900,1795514400,3,2,0,1,0,0,0,0,0,0,0,0,3,4,0,7,0,0,0,0,1,7,1,90,1,44444,0,0,0,0,0);
INSERT INTO "rollup_models" VALUES(900,1795514400,4,2,0,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,5,0,0,0,0,0,0,0);
CREATE TABLE rollup_projects (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	endpoint_id INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (grain, bucket, project_id, model_id, endpoint_id, writer)
)
 WITHOUT ROWID

;
CREATE TABLE rollup_spending (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	PRIMARY KEY (grain, bucket, user_id, model_id, writer)
)
 WITHOUT ROWID

;
CREATE TABLE rollup_totals (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (grain, bucket, writer)
)
 WITHOUT ROWID

;
INSERT INTO "rollup_totals" VALUES(900,1795514400,0,3,1,0,0,0,0,0,0,0,25003,50004,0,75007,3750000,15000000,18750000,0,1,7,3,995,2,55600000,0,0,1,0,0);
CREATE TABLE rollup_users (
	grain INTEGER NOT NULL, 
	bucket INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	writer INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	errors BIGINT NOT NULL, 
	errors_upstream BIGINT NOT NULL, 
	errors_timeout BIGINT NOT NULL, 
	errors_refused BIGINT NOT NULL, 
	errors_interrupted BIGINT NOT NULL, 
	"left" BIGINT NOT NULL, 
	cache_hits BIGINT NOT NULL, 
	estimated BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	response_tokens BIGINT NOT NULL, 
	cached_prompt_tokens BIGINT NOT NULL, 
	total_tokens BIGINT NOT NULL, 
	prompt_nusd BIGINT NOT NULL, 
	response_nusd BIGINT NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	saved_nusd BIGINT NOT NULL, 
	unpriced_requests BIGINT NOT NULL, 
	unpriced_tokens BIGINT NOT NULL, 
	timed BIGINT NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	paced BIGINT NOT NULL, 
	speed_mtps BIGINT NOT NULL, 
	begun BIGINT NOT NULL, 
	ttft_ms BIGINT NOT NULL, 
	rated_positive BIGINT NOT NULL, 
	rated_negative BIGINT NOT NULL, 
	rated_neutral BIGINT NOT NULL, 
	PRIMARY KEY (grain, user_id, bucket, writer)
)
 WITHOUT ROWID

;
INSERT INTO "rollup_users" VALUES(900,1795514400,1,0,1,0,0,0,0,0,0,0,0,25000,50000,0,75000,3750000,15000000,18750000,0,0,0,1,900,1,55555556,0,0,1,0,0);
INSERT INTO "rollup_users" VALUES(900,1795514400,2,0,2,1,0,0,0,0,0,0,0,3,4,0,7,0,0,0,0,1,7,2,95,1,44444,0,0,0,0,0);
CREATE TABLE statements (
	number INTEGER NOT NULL, 
	month VARCHAR(7) NOT NULL, 
	kind VARCHAR NOT NULL, 
	subject_id INTEGER NOT NULL, 
	subject VARCHAR NOT NULL, 
	total_nusd BIGINT NOT NULL, 
	content TEXT NOT NULL, 
	checksum VARCHAR NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(month) REFERENCES closings (month)
);
CREATE TABLE users (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	username VARCHAR, 
	password_hash VARCHAR, 
	is_admin BOOLEAN DEFAULT 0 NOT NULL, 
	created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	disabled_at TIMESTAMP, 
	deleted_at TIMESTAMP, 
	sessions_from TIMESTAMP, weight FLOAT, limit_concurrent INTEGER, limit_concurrent_per_model INTEGER, limit_requests_per_minute INTEGER, limit_tokens_per_minute INTEGER, 
	UNIQUE (username)
);
INSERT INTO "users" VALUES(1,'ada',NULL,1,'2026-11-24 10:00:00.000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "users" VALUES(2,'bob',NULL,0,'2026-11-24 10:00:00.000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id);
CREATE INDEX idx_prices_model ON prices (model, effective_at);
CREATE INDEX idx_metrics_created ON llm_metrics (created_at);
CREATE INDEX idx_metrics_model ON llm_metrics (model);
CREATE UNIQUE INDEX idx_metrics_request ON llm_metrics (request_id);
CREATE INDEX idx_metrics_user ON llm_metrics (user_id);
CREATE INDEX ix_adjustments_repricing_id ON adjustments (repricing_id);
CREATE INDEX idx_adjustments_metric ON adjustments (metric_id);
CREATE INDEX idx_adjustments_moment ON adjustments (metric_created_at);
CREATE INDEX ix_statements_month ON statements (month);
CREATE INDEX idx_statements_subject ON statements (kind, subject_id);
CREATE UNIQUE INDEX idx_collections_name ON collections (owner_id, name);
CREATE UNIQUE INDEX idx_documents_content ON documents (collection_id, content_hash);
CREATE UNIQUE INDEX idx_chunks_document ON chunks (document_id, ordinal);
CREATE INDEX ix_rollup_changes_revision ON rollup_changes (revision);
CREATE INDEX idx_documents_unfinished ON documents (stage) WHERE stage != 'here';
PRAGMA writable_schema=OFF;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('users',2);
INSERT INTO "sqlite_sequence" VALUES('prices',3);
INSERT INTO "sqlite_sequence" VALUES('llm_metrics',3);
COMMIT;
