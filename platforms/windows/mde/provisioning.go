package mde

import (
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// The stores that the certificate of the management channel can be in.
const (
	StoreUser   = "User"
	StoreSystem = "System"
)

// ProvisioningDocument is what the PC sets itself up with: certificates, the management account and its schedule.
// Names in quotes are those of the document.
type ProvisioningDocument struct {
	// Roots and Intermediates are DER; Windows takes one of each here. More can come over the management channel.
	Roots, Intermediates [][]byte
	// Client is the certificate of the management channel, DER. The PC finds it again by its subject.
	Client []byte
	// Store is StoreUser or StoreSystem; see StoreFor.
	Store string
	// ProviderID names the server on the PC, in letters, digits and dots: others would be escaped in every path.
	ProviderID string
	// Name is for people, Address the URL of the management channel.
	Name, Address string
	// Renew is nil if the server renews no certificates.
	Renew *Renewal
	// UPN, DeviceName ("EntDeviceName") and EntDMID (the server's name of the device) are optional.
	UPN, DeviceName, EntDMID string
	// ClientSecret and ClientNonce prove the server to the PC ("CLIENT"), ServerName, ServerSecret and ServerNonce the PC
	// to the server ("APPSRV"). Windows wants them even where TLS certificates do both.
	ClientSecret, ServerName, ServerSecret string
	ClientNonce, ServerNonce               []byte
	// Poll is DefaultPoll if it is zero.
	Poll Poll
	// RequireMessageSigning makes the PC sign each message in a header, for servers behind a proxy.
	RequireMessageSigning bool
	// Backoff is DefaultBackoff if it is zero.
	Backoff Backoff
}

// Renewal says when the PC renews its certificate.
type Renewal struct {
	// Period is how many days before its end the PC begins, Retry how many days lie between two tries.
	Period, Retry int
	// ROBO: the PC renews by itself.
	ROBO bool
}

// Poll is the schedule of sessions. There are three in a row; intervals are in minutes. An interval of 0 leaves a
// schedule out, and a number of 0 with an interval makes it endless (Microsoft Learn, "DMClient DDF file").
type Poll struct {
	NumberOfFirstRetries, IntervalForFirstSetOfRetries                      int
	NumberOfSecondRetries, IntervalForSecondSetOfRetries                    int
	NumberOfRemainingScheduledRetries, IntervalForRemainingScheduledRetries int
	PollOnLogin, AllUsersPollOnFirstLogin                                   bool
}

// DefaultPoll asks every quarter of an hour for two hours, hourly for five, then every 26 hours for ever: Microsoft's
// advice for the last is more than a day.
func DefaultPoll() Poll {
	return Poll{NumberOfFirstRetries: 8, IntervalForFirstSetOfRetries: 15, NumberOfSecondRetries: 5,
		IntervalForSecondSetOfRetries: 60, IntervalForRemainingScheduledRetries: 1560, PollOnLogin: true,
		AllUsersPollOnFirstLogin: true}
}

// Backoff says how the PC tries again when it cannot reach the server.
type Backoff struct {
	Retries      int           // "CONNRETRYFREQ"
	Initial, Max time.Duration // "INITIALBACKOFFTIME", "MAXBACKOFFTIME"
}

// DefaultBackoff tries six times, half a minute to two minutes apart.
func DefaultBackoff() Backoff {
	return Backoff{Retries: 6, Initial: 30 * time.Second, Max: 2 * time.Minute}
}

// Provisioning writes the document that ends an enrolment; TokenResponse carries it.
// Source: windows.md 1.7; Microsoft Learn, "Mobile device enrollment", "w7 APPLICATION CSP", "CertificateStore CSP".
func Provisioning(p ProvisioningDocument) ([]byte, error) {
	name, err := p.check()
	if err != nil {
		return nil, fmt.Errorf("write provisioning document: %w", err)
	}
	if p.Poll == (Poll{}) {
		p.Poll = DefaultPoll()
	}
	if p.Backoff == (Backoff{}) {
		p.Backoff = DefaultBackoff()
	}
	store := characteristic("CertificateStore", append(p.authorities(), p.my(p.renew()...))...)
	return document(store, p.application(name), p.dmClient()), nil
}

// RenewalProvisioning writes the document that answers a renewal: only Client, Store and ProviderID count. Source:
// windows.md 1.8; Microsoft Learn, "Certificate renewal".
func RenewalProvisioning(p ProvisioningDocument) ([]byte, error) {
	if _, err := p.checkClient(); err != nil {
		return nil, fmt.Errorf("write provisioning document of a renewal: %w", err)
	}
	application := characteristic("APPLICATION", parm("PROVIDER-ID", p.ProviderID))
	return document(characteristic("CertificateStore", p.my()), application), nil
}

func document(inner ...xmltree.Element) []byte {
	root := xmltree.Parent("wap-provisioningdoc", inner...).With("version", "1.1")
	return append([]byte(`<?xml version="1.0" encoding="UTF-8"?>`), root.Render()...)
}

func characteristic(kind string, inner ...xmltree.Element) xmltree.Element {
	return xmltree.Parent("characteristic", inner...).With("type", kind)
}

func parm(name, value string) xmltree.Element {
	return xmltree.Text("parm", "").With("name", name, "value", value)
}

// typed is a parm whose data type must be said: those of WSTEP and DMClient.
func typed(name, value, datatype string) xmltree.Element {
	return parm(name, value).With("datatype", datatype)
}

func integer(name string, value int) xmltree.Element {
	return typed(name, strconv.Itoa(value), "integer")
}

func boolean(name string, value bool) xmltree.Element {
	return typed(name, strconv.FormatBool(value), "boolean")
}

// certificate is named by the SHA-1 of its DER in capitals.
func certificate(der []byte) xmltree.Element {
	sum := sha1.Sum(der)
	return characteristic(strings.ToUpper(hex.EncodeToString(sum[:])),
		parm("EncodedCertificate", base64.StdEncoding.EncodeToString(der)))
}

// authorities puts the intermediate into CA/System, where the CertificateStore CSP has a place for it; the text of
// Microsoft's enrollment page says My/User.
func (p ProvisioningDocument) authorities() []xmltree.Element {
	var stores []xmltree.Element
	for _, der := range p.Roots {
		stores = append(stores, characteristic("Root", characteristic("System", certificate(der))))
	}
	for _, der := range p.Intermediates {
		stores = append(stores, characteristic("CA", characteristic("System", certificate(der))))
	}
	return stores
}

func (p ProvisioningDocument) my(renew ...xmltree.Element) xmltree.Element {
	store := characteristic(p.Store, certificate(p.Client), characteristic("PrivateKeyContainer"))
	return characteristic("My", append([]xmltree.Element{store}, renew...)...)
}

func (p ProvisioningDocument) renew() []xmltree.Element {
	if p.Renew == nil {
		return nil
	}
	return []xmltree.Element{characteristic("WSTEP", characteristic("Renew", boolean("ROBOSupport", p.Renew.ROBO),
		integer("RenewPeriod", p.Renew.Period), integer("RetryInterval", p.Renew.Retry)))}
}

// application is the management account. Its parms are case-sensitive.
func (p ProvisioningDocument) application(subject string) xmltree.Element {
	return characteristic("APPLICATION",
		parm("APPID", "w7"), parm("PROVIDER-ID", p.ProviderID), parm("NAME", p.Name), parm("ADDR", p.Address),
		parm("CONNRETRYFREQ", strconv.Itoa(p.Backoff.Retries)),
		parm("INITIALBACKOFFTIME", milliseconds(p.Backoff.Initial)), parm("MAXBACKOFFTIME", milliseconds(p.Backoff.Max)),
		xmltree.Text("parm", "").With("name", "BACKCOMPATRETRYDISABLED"),
		parm("DEFAULTENCODING", "application/vnd.syncml.dm+xml"),
		parm("SSLCLIENTCERTSEARCHCRITERIA", "Subject="+escape(subject)+"&Stores="+escape(`My\`+p.Store)),
		characteristic("APPAUTH", parm("AAUTHLEVEL", "CLIENT"), parm("AAUTHTYPE", "DIGEST"),
			parm("AAUTHSECRET", p.ClientSecret), parm("AAUTHDATA", base64.StdEncoding.EncodeToString(p.ClientNonce))),
		characteristic("APPAUTH", parm("AAUTHLEVEL", "APPSRV"), parm("AAUTHTYPE", "DIGEST"), parm("AAUTHNAME", p.ServerName),
			parm("AAUTHSECRET", p.ServerSecret), parm("AAUTHDATA", base64.StdEncoding.EncodeToString(p.ServerNonce))))
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// escape leaves only unreserved characters (RFC 3986 section 2.3); a blank is %20 and never a plus.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func (p ProvisioningDocument) dmClient() xmltree.Element {
	provider := characteristic(p.ProviderID)
	texts := [][2]string{{"UPN", p.UPN}, {"EntDeviceName", p.DeviceName}, {"EntDMID", p.EntDMID}}
	for _, t := range texts {
		if t[1] != "" {
			provider = provider.Add(typed(t[0], t[1], "string"))
		}
	}
	if p.RequireMessageSigning {
		provider = provider.Add(boolean("RequireMessageSigning", true))
	}
	provider = provider.Add(p.Poll.characteristic())
	return characteristic("DMClient", characteristic("Provider", provider))
}

func (p Poll) characteristic() xmltree.Element {
	return characteristic("Poll",
		integer("NumberOfFirstRetries", p.NumberOfFirstRetries),
		integer("IntervalForFirstSetOfRetries", p.IntervalForFirstSetOfRetries),
		integer("NumberOfSecondRetries", p.NumberOfSecondRetries),
		integer("IntervalForSecondSetOfRetries", p.IntervalForSecondSetOfRetries),
		integer("NumberOfRemainingScheduledRetries", p.NumberOfRemainingScheduledRetries),
		integer("IntervalForRemainingScheduledRetries", p.IntervalForRemainingScheduledRetries),
		boolean("PollOnLogin", p.PollOnLogin), boolean("AllUsersPollOnFirstLogin", p.AllUsersPollOnFirstLogin))
}

// providerID needs no escaping, neither in XML nor in a LocURI.
const providerID = `^[A-Za-z0-9][A-Za-z0-9.]*$`

// check says what is wrong and gives the subject of Client.
func (p ProvisioningDocument) check() (string, error) {
	name, err := p.checkClient()
	if err != nil {
		return "", err
	}
	if err := authorities("Roots", p.Roots); err != nil {
		return "", err
	}
	if err := authorities("Intermediates", p.Intermediates); err != nil {
		return "", err
	}
	if _, err := secureURL("Address", p.Address); err != nil {
		return "", err
	}
	if err := p.checkSecrets(); err != nil {
		return "", err
	}
	return name, p.checkNumbers()
}

func (p ProvisioningDocument) checkClient() (string, error) {
	switch {
	case p.Store != StoreUser && p.Store != StoreSystem:
		return "", errors.New("the Store must be User or System")
	case !regexp.MustCompile(providerID).MatchString(p.ProviderID):
		return "", errors.New("the ProviderID must be letters, digits and dots, not beginning with a dot")
	}
	client, err := x509.ParseCertificate(p.Client)
	if err != nil {
		return "", fmt.Errorf("the certificate in Client: %w", err)
	}
	name, err := subject(client.Subject.Names)
	if err != nil {
		return "", fmt.Errorf("the certificate in Client: %w", err)
	}
	return name, nil
}

// subject writes a name as the search criteria have it: in the order of the certificate, with commas (the sample in
// "Mobile device enrollment"). What would need quotes is refused, since nothing says how Windows reads them here.
func subject(names []pkix.AttributeTypeAndValue) (string, error) {
	short := map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "S", "2.5.4.10": "O",
		"2.5.4.11": "OU", "0.9.2342.19200300.100.1.25": "DC"}
	var parts []string
	for _, n := range names {
		value, _ := n.Value.(string)
		if short[n.Type.String()] == "" || value == "" || strings.ContainsAny(value, ",+;=\"<>#\\\r\n\x00") {
			return "", errors.New("the subject must be made of CN, OU, O, L, S, C and DC, without any of ,+;=\"<>#\\ in the values")
		}
		parts = append(parts, short[n.Type.String()]+"="+value)
	}
	if len(parts) == 0 {
		return "", errors.New("the subject is empty: the PC could not find the certificate again")
	}
	return strings.Join(parts, ","), nil
}

func authorities(field string, certificates [][]byte) error {
	if len(certificates) > 1 {
		return fmt.Errorf("%s has %d certificates: Windows takes one here, send the others over the management channel",
			field, len(certificates))
	}
	for _, der := range certificates {
		if _, err := x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	return nil
}

func (p ProvisioningDocument) checkSecrets() error {
	fields := [][2]string{{"Name", p.Name}, {"ClientSecret", p.ClientSecret}, {"ClientNonce", string(p.ClientNonce)},
		{"ServerName", p.ServerName}, {"ServerSecret", p.ServerSecret}, {"ServerNonce", string(p.ServerNonce)}}
	for _, f := range fields {
		if f[1] == "" {
			return fmt.Errorf("%s is missing", f[0])
		}
	}
	return nil
}

// checkNumbers has the bounds of the CertificateStore CSP's Renew node; negative numbers mean nothing anywhere.
func (p ProvisioningDocument) checkNumbers() error {
	q, r := p.Poll, p.Renew
	least := min(q.NumberOfFirstRetries, q.IntervalForFirstSetOfRetries, q.NumberOfSecondRetries,
		q.IntervalForSecondSetOfRetries, q.NumberOfRemainingScheduledRetries, q.IntervalForRemainingScheduledRetries)
	switch {
	case least < 0:
		return errors.New("the Poll has a negative number")
	case p.Backoff.Retries < 0 || p.Backoff.Initial < 0 || p.Backoff.Max < p.Backoff.Initial:
		return errors.New("the Backoff must have no negative number, and Max not below Initial")
	case r != nil && (r.Period < 1 || r.Period > 1000 || r.Retry < 1 || r.Retry > r.Period):
		return errors.New("in Renew, Period must be 1 to 1000 days, and Retry 1 to Period")
	}
	return nil
}
