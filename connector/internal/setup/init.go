// Package setup is what happens around the work: init makes keys and registers, approve takes a further connector in,
// sync tells the server what there is. Each step looks at what is already on the disk, so that a run that broke off is
// simply repeated.
//
//	keyring made → registered → first:   root pinned, CAs made, key set 1 signed → published → complete
//	                          → further: root pinned → complete; then run waits for approve: CAs received → published
package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
)

// Init is what `waxseal-connector init` was told.
type Init struct {
	Dir      string
	Server   string
	ServerCA []byte // PEM; empty: the system's CAs
	Token    func() (string, error)
	Name     string
	// EscrowRoot is the root that a further connector shall trust; empty: pinned at first use.
	EscrowRoot string
	// RecoveryOut is the file for a recovery key; empty: none.
	RecoveryOut string
	Options     keyring.Options
	// Transport is used for the link instead of one that trusts ServerCA; for tests.
	Transport http.RoundTripper
}

// Outcome is what init came to.
type Outcome struct {
	Changed    bool
	EscrowRoot string // fingerprint; empty when a further connector has not learnt it yet
	Member     string // fingerprint of the connector's own escrow key
	Further    bool
}

// errRecovery would otherwise be a recovery key that somebody believes in and that opens nothing.
var errRecovery = errors.New("--recovery-out: there is no recovery key of a further connector; the first one makes it. Leave it out here")

// Run makes the keyring and registers the connector. Repeated, it changes nothing.
func (i Init) Run(ctx context.Context) (Outcome, error) {
	if i.EscrowRoot != "" && i.RecoveryOut != "" {
		return Outcome{}, errRecovery
	}
	k, err := i.open()
	if err != nil {
		return Outcome{}, err
	}
	if k.Settings().Complete {
		return outcome(k, false)
	}
	if err := i.register(ctx, k); err != nil {
		return Outcome{}, err
	}
	cred, _, err := k.Credential()
	if err != nil {
		return Outcome{}, err
	}
	if cred.Further && i.RecoveryOut != "" {
		return Outcome{}, errRecovery
	}
	if cred.Further {
		err = i.join(ctx, k)
	} else {
		err = i.found(ctx, k)
	}
	if err == nil {
		err = k.SetComplete()
	}
	if err != nil {
		return Outcome{}, err
	}
	return outcome(k, true)
}

func outcome(k *keyring.Keyring, changed bool) (Outcome, error) {
	cred, _, err := k.Credential()
	return Outcome{Changed: changed, EscrowRoot: k.Settings().EscrowRoot, Member: k.Member().ID, Further: cred.Further}, err
}

// open opens the keyring or makes it.
func (i Init) open() (*keyring.Keyring, error) {
	if u, err := url.Parse(i.Server); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("--server %q is no URL: it looks like https://waxseal.corp.test", i.Server)
	} else if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("--server %q: without TLS the token and the credential would be readable on the way; use https", i.Server)
	}
	if !keyring.Exists(i.Dir) {
		settings := keyring.Settings{Server: i.Server, Name: i.Name, EscrowRoot: i.EscrowRoot}
		return keyring.Create(i.Dir, settings, i.ServerCA, i.Options)
	}
	k, err := keyring.Open(i.Dir, i.Options)
	if err != nil {
		return nil, err
	}
	return k, i.restate(k)
}

// restate takes what a repeated init says in place of what the first one said, as far as nothing was built on that.
func (i Init) restate(k *keyring.Keyring) error {
	s := k.Settings()
	_, registered, err := k.Credential()
	if err != nil {
		return err
	}
	if registered && s.Server != i.Server {
		return fmt.Errorf("the keyring %s belongs to the server %s: make another keyring for %s", i.Dir, s.Server, i.Server)
	}
	_, trusted, err := k.StoredKeySet()
	if err != nil {
		return err
	}
	if trusted && i.EscrowRoot != "" && s.EscrowRoot != i.EscrowRoot {
		return &escrow.WrongRootError{Pinned: i.EscrowRoot, Got: s.EscrowRoot}
	}
	if s.Complete || trusted {
		return nil
	}
	said := keyring.Settings{Server: i.Server, Name: i.Name, EscrowRoot: i.EscrowRoot}
	if registered {
		said.Name = s.Name
		said.EscrowRoot = cmp.Or(i.EscrowRoot, s.EscrowRoot)
	}
	return k.Restate(said, i.ServerCA)
}

// loopback hosts are reached without a network.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// register spends the token, unless that was done. The keys are on the disk before the server learns of them, and a
// repeated request carries the same ones.
func (i Init) register(ctx context.Context, k *keyring.Keyring) error {
	if cred, found, err := k.Credential(); err != nil || found {
		return errors.Join(err, dropUnusedRoot(k, cred))
	}
	token, err := i.Token()
	if err != nil {
		return err
	}
	client, err := Client(k, i.Transport)
	if err != nil {
		return err
	}
	request := link.RegisterRequest{Token: token, Name: i.Name, Member: k.Member()}
	if i.EscrowRoot == "" {
		if request.EscrowRoot, err = k.MakeRoot(); err != nil {
			return err
		}
	}
	answer, err := client.Register(ctx, request)
	if err != nil {
		return err
	}
	if i.EscrowRoot != "" && !answer.Pending {
		return errors.New("--escrow-root was given, but the server has no other connector yet: leave it out for the first one")
	}
	cred := keyring.Credential{ConnectorID: answer.ConnectorID, Credential: answer.Credential, Further: answer.Pending}
	if err := k.SetCredential(cred); err != nil {
		return err
	}
	return dropUnusedRoot(k, cred)
}

func dropUnusedRoot(k *keyring.Keyring, cred keyring.Credential) error {
	if !cred.Further {
		return nil
	}
	return k.DropRoot()
}

// found sets the first connector up.
func (i Init) found(ctx context.Context, k *keyring.Keyring) error {
	root, err := k.MakeRoot()
	if err != nil {
		return err
	}
	if err := k.PinRoot(escrow.Fingerprint(root)); err != nil {
		return err
	}
	client, err := Client(k, i.Transport)
	if err != nil {
		return err
	}
	if err := learnPKIURL(ctx, k, client); err != nil {
		return err
	}
	if err := k.MakeAuthorities(); err != nil {
		return err
	}
	if err := i.firstKeySet(k); err != nil {
		return err
	}
	return publish(ctx, k, client, nil)
}

// learnPKIURL asks before the first CA is made, since the issuing CA's certificate says where its own revocation can be
// looked up.
func learnPKIURL(ctx context.Context, k *keyring.Keyring, client *link.Client) error {
	if k.HasAuthorities() {
		return nil
	}
	answer, err := client.Publish(ctx, link.PublishRequest{})
	if err != nil {
		return err
	}
	if err := checkPKIURL(answer.PKIURL); err != nil {
		return err
	}
	return k.SetPKIURL(answer.PKIURL)
}

func (i Init) firstKeySet(k *keyring.Keyring) error {
	if _, found, err := k.StoredKeySet(); err != nil || found {
		return err
	}
	set := escrow.KeySet{Serial: 1, Members: []escrow.Member{k.Member()}}
	if i.RecoveryOut != "" {
		recovery, err := k.MakeRecovery(i.RecoveryOut)
		if err != nil {
			return err
		}
		set.Members = append(set.Members, recovery)
	}
	_, err := k.SignKeySet(set)
	return err
}

// join lets a further connector learn the escrow root, if the server shows it the key set before it is approved.
func (i Init) join(ctx context.Context, k *keyring.Keyring) error {
	if pinned := k.Settings().EscrowRoot; pinned != "" {
		if err := k.PinRoot(pinned); err != nil { // writes the file escrow-root
			return err
		}
	}
	client, err := Client(k, i.Transport)
	if err != nil {
		return err
	}
	return learnKeySet(ctx, k, client)
}

// Client makes the client of the link from the keyring.
func Client(k *keyring.Keyring, transport http.RoundTripper) (*link.Client, error) {
	if transport == nil {
		caPEM, err := k.ServerCA()
		if err != nil {
			return nil, err
		}
		if transport, err = link.NewTransport(caPEM); err != nil {
			return nil, err
		}
	}
	cred, _, err := k.Credential()
	if err != nil {
		return nil, err
	}
	return &link.Client{BaseURL: k.Settings().Server, HTTP: &http.Client{Transport: transport},
		ConnectorID: cred.ConnectorID, Credential: cred.Credential}, nil
}
