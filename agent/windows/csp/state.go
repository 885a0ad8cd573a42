package csp

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// state is all that commands change. A clone of it is what an Atomic is rolled back to.
type state struct {
	login string
	nodes map[string]node // by place.key
	certs []entry
}

// node is one written node. Path has the names as they were sent, where the key has lower case.
type node struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Value  string `json:"value,omitempty"`
}

// entry is a certificate in a store, for one owner: two nodes that brought the same certificate are two entries.
type entry struct {
	store    string // "User/My"
	owner    string // key of the node that brought it; empty: the provisioning document
	id       string
	friendly string
	cert     *x509.Certificate
	key      crypto.Signer
}

func (s state) clone() state {
	s.nodes = maps.Clone(s.nodes)
	s.certs = slices.Clone(s.certs)
	return s
}

// thumbprint is how Windows names a certificate: SHA-1 in 40 upper-case hex digits.
func thumbprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// named reports whether a SHA-1 or SHA-256 in hex is the certificate's.
func named(cert *x509.Certificate, hash string) bool {
	sum := sha256.Sum256(cert.Raw)
	return strings.EqualFold(hash, thumbprint(cert)) || strings.EqualFold(hash, hex.EncodeToString(sum[:]))
}

// stateJSON is the form on disk.
type stateJSON struct {
	Login        string          `json:"login"`
	Nodes        map[string]node `json:"nodes,omitempty"`
	Certificates []entryJSON     `json:"certificates,omitempty"`
}

type entryJSON struct {
	Store        string `json:"store"`
	Owner        string `json:"owner,omitempty"`
	ID           string `json:"id"`
	FriendlyName string `json:"friendlyName,omitempty"`
	Certificate  []byte `json:"certificate"`
	Key          []byte `json:"key,omitempty"` // PKCS#8
}

// MarshalJSON writes what management changed, with the private keys.
func (p *PC) MarshalJSON() ([]byte, error) {
	out := stateJSON{Login: p.state.login, Nodes: p.state.nodes}
	for _, e := range p.state.certs {
		j := entryJSON{Store: e.store, Owner: e.owner, ID: e.id, FriendlyName: e.friendly, Certificate: e.cert.Raw}
		if e.key != nil {
			der, err := x509.MarshalPKCS8PrivateKey(e.key)
			if err != nil {
				return nil, fmt.Errorf("writing the private key of certificate %s: %w", e.id, err)
			}
			j.Key = der
		}
		out.Certificates = append(out.Certificates, j)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote; Configure must follow.
func (p *PC) UnmarshalJSON(raw []byte) error {
	var in stateJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("reading the management tree: %w", err)
	}
	next := state{login: in.Login, nodes: in.Nodes}
	if next.nodes == nil {
		next.nodes = map[string]node{}
	}
	for _, j := range in.Certificates {
		e, err := j.entry()
		if err != nil {
			return fmt.Errorf("reading certificate %s of store %s: %w", j.ID, j.Store, err)
		}
		next.certs = append(next.certs, e)
	}
	p.state = next
	return nil
}

func (j entryJSON) entry() (entry, error) {
	e := entry{store: j.Store, owner: j.Owner, id: j.ID, friendly: j.FriendlyName}
	cert, err := x509.ParseCertificate(j.Certificate)
	if err != nil {
		return e, err
	}
	e.cert = cert
	if j.Key == nil {
		return e, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(j.Key)
	if err != nil {
		return e, errors.New("the private key is malformed")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return e, errors.New("the private key cannot sign")
	}
	e.key = signer
	return e, nil
}
