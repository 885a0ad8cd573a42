// Package api is the wire between the operator's command line and the server: JSON over HTTPS under /api/v1, authorised by
// the admin token. The server describes the same paths as OpenAPI 3.1 at /openapi.json.
//
//	POST   /apply                  ApplyRequest → ApplyResponse
//	DELETE /objects?kind=&name=    → 204
//	GET    /objects                → Page[profiles.Object]: profiles and assignments as they were applied
//	GET    /users, /groups, /profiles, /devices, /certificates, /escrow, /connectors, /jobs   ?after=&limit= → Page[…]
//	GET    /users/{upn}            → User
//	GET    /devices/{id}/explain   → Explain
//	POST   /devices/{id}/retire, /wipe, /sync → Device
//	POST   /enrollment-links       LinkRequest → Link
//	POST   /connector-tokens       → Token
//	GET    /key-set                → escrow.SignedKeySet; 404 before the first connector
//	POST   /escrow                 ImportRequest → ImportResponse
//	DELETE /escrow/{id}            → 204
//	GET    /audit                  ?after=&limit= → Page[AuditEntry]
//
// Errors are problem+json (RFC 9457), decoded into *Problem.
package api
