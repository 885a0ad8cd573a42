package companion

import (
	"fmt"
)

// Bounds of what an answer carries.
const (
	maxCertificate = 64 << 10
	maxEnvelope    = 128 << 10
	maxKey         = 32 << 10
	maxChain       = 10
	maxSubject     = 8 << 10
	minKeySize     = 1024
	maxKeySize     = 8192
)

// Check says what is wrong with the answer, or nil.
func (r EnrollResponse) Check() error {
	return first(
		isToken("device_id", r.DeviceID, 128),
		isText("user_hint", r.UserHint),
		isToken("credential", r.Credential, 1024),
		certified(r.WrapKeyID, r.WrapCertificate),
		within("poll.interval_s", int64(r.Poll.IntervalSeconds), 1, 7*24*3600),
		within("poll.jitter_pct", int64(r.Poll.JitterPercent), 0, 100),
		isTime("server_time", r.ServerTime),
	)
}

// Check says what is wrong with the answer, or nil.
func (r RenewResponse) Check() error { return certified(r.WrapKeyID, r.WrapCertificate) }

func certified(id string, certificate []byte) error {
	return first(
		isSHA256("wrap_key_id", id),
		isBinary("wrap_certificate_b64", certificate, maxCertificate),
		must(sumIs(certificate, id), "wrap_key_id", "the SHA-256 of wrap_certificate_b64"),
	)
}

// Check says what is wrong with the state, or nil.
func (s State) Check() error {
	return first(
		isToken("generation", s.Generation, 128),
		isTime("server_time", s.ServerTime),
		each("items", s.Items, func(i Item) string { return i.ID }, func(at string, i Item) error { return i.check(at + ".") }),
		within("policy.max_attempts", int64(s.Policy.MaxAttempts), 0, 1000),
		within("policy.report_inventory_every_s", int64(s.Policy.ReportInventorySeconds), 0, 365*24*3600),
		within("pending", int64(s.Pending), 0, 1<<20),
	)
}

// Check says what is wrong with the item, or nil.
func (i Item) Check() error { return i.check("") }

func (i Item) check(at string) error {
	err := first(
		isItemID(at+"item_id", i.ID),
		isToken(at+"revision", i.Revision, 128),
		isOneOf(at+"kind", i.Kind, KindCACert, KindIdentity, KindGrant, KindMailConfig),
		isOneOf(at+"op", i.Op, OpInstall, OpRemove),
		eachText(at+"depends_on", i.DependsOn, isItemID),
		must(i.Attempt >= 0, at+"attempt", "a number that is not negative"),
		i.one(at),
	)
	if err != nil {
		return err
	}
	switch i.Kind {
	case KindCACert:
		return i.CACert.check(at+"ca_cert.", i.Op)
	case KindIdentity:
		return i.Identity.check(at+"identity.", i.Op)
	case KindGrant:
		return i.Grant.check(at + "grant.")
	}
	return first(isPackage(at+"mail_config.package", i.MailConfig.Package),
		must(i.Op == OpRemove || len(i.MailConfig.Values) > 0, at+"mail_config.values", "an object with fields"))
}

// one: the content is that of the kind, and nothing else.
func (i Item) one(at string) error {
	for kind, there := range map[Kind]bool{KindCACert: i.CACert != nil, KindIdentity: i.Identity != nil,
		KindGrant: i.Grant != nil, KindMailConfig: i.MailConfig != nil} {
		if there != (kind == i.Kind) {
			return fmt.Errorf("%skind is %s, so %s must be there and no other content", at, i.Kind, i.Kind)
		}
	}
	return nil
}

// check: an item that goes needs no more than its name.
func (c CACert) check(at string, op Op) error {
	if err := isSHA256(at+"sha256", c.SHA256); err != nil || op == OpRemove {
		return err
	}
	return first(isBinary(at+"der_b64", c.DER, maxCertificate),
		must(sumIs(c.DER, c.SHA256), at+"sha256", "the SHA-256 of der_b64"))
}

func (d Identity) check(at string, op Op) error {
	if err := isAlias(at+"alias", d.Alias); err != nil || op == OpRemove {
		return err
	}
	return first(
		isOneOf(at+"purpose", d.Purpose, PurposeSign, PurposeEncrypt, PurposeBoth),
		isOneOf(at+"payload", d.Payload, PayloadFetch, PayloadGenerate),
		d.checkGenerate(at),
		d.checkCertificate(at),
	)
}

// checkGenerate: what key to make is said where the device makes it, and nowhere else.
func (d Identity) checkGenerate(at string) error {
	if d.Payload == PayloadFetch {
		return must(d.Generate == nil, at+"generate", "left out with payload "+PayloadFetch)
	}
	if d.Generate == nil {
		return fmt.Errorf("%sgenerate is missing; payload %s needs it", at, PayloadGenerate)
	}
	return d.Generate.check(at + "generate.")
}

// checkCertificate: only a key that the device has yet to make has no certificate.
func (d Identity) checkCertificate(at string) error {
	if d.Payload == PayloadGenerate && d.CertSHA256 == "" && d.NotBefore.IsZero() && d.NotAfter.IsZero() {
		return nil
	}
	return first(
		isSHA256(at+"cert_sha256", d.CertSHA256),
		isTime(at+"not_before", d.NotBefore),
		must(d.NotAfter.After(d.NotBefore), at+"not_after", "later than not_before"),
	)
}

func (g Generate) check(at string) error {
	return first(
		must(g.KeyAlg == KeyAlgRSA, at+"key_alg", KeyAlgRSA),
		within(at+"key_size", int64(g.KeySize), minKeySize, maxKeySize),
		isBinary(at+"subject_b64", g.Subject, maxSubject),
		each(at+"names", g.Names, func(n Name) string { return n.Type + ":" + n.Value }, checkName),
		eachText(at+"key_usage", g.KeyUsage, func(field, s string) error { return isToken(field, s, 64) }),
	)
}

func checkName(at string, n Name) error {
	return first(isOneOf(at+".type", n.Type, NameEmail, NameDNS, NameURI, NameUPN),
		must(n.Value != "" && len(n.Value) <= maxText, at+".value", "a text that is not empty"))
}

func (g Grant) check(at string) error {
	return first(isAlias(at+"alias", g.Alias), isPackage(at+"package", g.Package),
		optionalSHA256(at+"signing_cert_sha256", g.SigningCertSHA256))
}

// Check says what is wrong with the answer, or nil.
func (r PayloadResponse) Check() error {
	return first(isBinary("envelope", r.Envelope, maxEnvelope), must(r.Alg == EnvelopeCMS, "alg", EnvelopeCMS),
		isTime("expires_at", r.ExpiresAt))
}

// Check says what is wrong with the answer, or nil.
func (r CSRResponse) Check() error { return isChain(r.Chain, r.CertSHA256) }

// Check says what is wrong with the secret, or nil. It repeats nothing of it.
func (s Secret) Check() error {
	return first(
		must(s.Format == SecretFormat, "format", SecretFormat),
		isBinary("key_der_b64", s.Key, maxKey),
		isItemID("item_id", s.ItemID),
		isToken("revision", s.Revision, 128),
		isChain(s.Chain, s.CertSHA256),
	)
}

// isChain: a certificate with that SHA-256, and those above it.
func isChain(chain [][]byte, sum string) error {
	if err := first(within("the number of certificates in chain_der_b64", int64(len(chain)), 1, maxChain), isSHA256("cert_sha256", sum)); err != nil {
		return err
	}
	for i, der := range chain {
		if err := isBinary(fmt.Sprintf("chain_der_b64[%d]", i), der, maxCertificate); err != nil {
			return err
		}
	}
	return must(sumIs(chain[0], sum), "cert_sha256", "the SHA-256 of the first certificate of chain_der_b64")
}

// Check says what is wrong with the acknowledgement, or nil.
func (r StatusResponse) Check() error { return must(r.AckSeq >= 0, "ack_seq", "0 or more") }

// Check says what is wrong with the refusal, or nil. An unknown code is a newer server's; the HTTP status tells enough.
func (p Problem) Check() error {
	return first(isWord("code", p.Code), within("retry_after", int64(p.RetryAfterSeconds), 0, 365*24*3600))
}
