-- The log of messages, as people look through it: whom, when, by which way, and what became of it.

CREATE VIEW submeter.notice_log WITH (security_invoker = true, security_barrier = true) AS
SELECT n.site_id, n.created_at AS at, t.code AS tenant, a.code AS account, c.name AS person, n.kind, n.channel, n.address, n.subject, n.body, n.urgent, n.state,
	n.accepted_at AS accepted, n.delivery, n.delivered_at AS delivered, n.receipt, n.tried, n.undelivered, n.attempts, n.last_error AS error,
	n.notice_id, a.tenant_id, n.account_id, n.contact_id
FROM submeter.notice n
JOIN submeter.account a ON a.site_id = n.site_id AND a.account_id = n.account_id
JOIN submeter.tenant t ON t.site_id = a.site_id AND t.tenant_id = a.tenant_id
LEFT JOIN submeter.contact c ON c.site_id = n.site_id AND c.contact_id = n.contact_id;
SELECT submeter.describe('notice_log', 'The log of messages (通知记录). By day, person or account an index finds them; words are looked for within those: WHERE site_id = 1 AND at >= … AND at < … AND body ILIKE ''%…%''.', '{
	"at":"when it was written","tenant":"code of the tenant","account":"code of the account","person":"name of the person","kind":"occasion","channel":"by which way it went or goes","address":"where it went, partly hidden","subject":"subject line","body":"text",
	"urgent":"sent in quiet hours too","state":"queued, sending, accepted (by the channel), failed or cancelled","accepted":"when the channel took it","delivery":"what the provider says became of it: waiting, delivered, failed, none; NULL where it says nothing",
	"delivered":"when it arrived, by the provider","receipt":"the provider''s number of it","tried":"channels that did not take it, or did not deliver it","undelivered":"of these: those that took it first","attempts":"rounds through all channels","error":"why the last try failed",
	"notice_id":"the message","contact_id":"the person"}');
GRANT SELECT ON submeter.notice_log TO submeter_admin, submeter_operator, submeter_auditor, submeter_tenant;
