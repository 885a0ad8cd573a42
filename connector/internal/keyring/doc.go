// Package keyring holds the connector's keys and hands out verbs, never keys: it opens a record, signs a certificate,
// signs a key set. The escrow key is parsed here and nowhere else.
//
// A keyring is a folder (mode 0700) of files (mode 0600), each written whole or not at all:
//
//	keyring.json       what is not secret: server, name, pinned escrow root, how the passphrase is stretched
//	server-ca.pem      the CA that the server's certificate must come from; missing: the system's CAs
//	credential         connector id and credential                                                       (private)
//	escrow.key         opens sealed records                                                               (private)
//	escrow-root        fingerprint of the escrow root
//	escrow-root.key    signs key sets; only in the first connector's keyring                              (private)
//	device-ca.pem/.key issues device certificates                                                         (private)
//	softca-root.pem/.key  the root of the S/MIME CA                                                       (private)
//	softca.pem/.key    the first CA under it that issues S/MIME certificates; softca-2, … follow it       (private)
//	keyset.json        the newest key set seen: an older one is refused
//	jobs.jsonl, softca.jsonl, audit.jsonl   journals
//
// With a passphrase the private files are encrypted (Argon2id, AES-256-GCM).
package keyring
