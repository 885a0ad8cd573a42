package windows

import (
	"crypto/sha1" //nolint:gosec // thumbprints are SHA-1
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parm is a value in a provisioning document.
type parm struct{ name, value, datatype string }

// characteristic is a node of a provisioning document. Names are case-sensitive.
type characteristic struct {
	kind     string
	parms    []parm
	children []*characteristic
}

// parseWAP reads a wap-provisioningdoc of version 1.1.
func parseWAP(raw []byte) (*characteristic, error) {
	top, err := parseXML(raw)
	if err != nil {
		return nil, err
	}
	if top.name != "wap-provisioningdoc" || top.attrs["version"] != "1.1" {
		return nil, errors.New("the document must be a <wap-provisioningdoc> of version 1.1")
	}
	return newCharacteristic(top, "")
}

func newCharacteristic(e *element, kind string) (*characteristic, error) {
	c := &characteristic{kind: kind}
	for _, child := range e.children {
		switch child.name {
		case "parm":
			if child.attrs["name"] == "" {
				return nil, fmt.Errorf("a <parm> under %q has no name", kind)
			}
			c.parms = append(c.parms, parm{child.attrs["name"], child.attrs["value"], child.attrs["datatype"]})
		case "characteristic":
			if child.attrs["type"] == "" {
				return nil, fmt.Errorf("a <characteristic> under %q has no type", kind)
			}
			inner, err := newCharacteristic(child, child.attrs["type"])
			if err != nil {
				return nil, err
			}
			c.children = append(c.children, inner)
		default:
			return nil, fmt.Errorf("<%s> has no place in a provisioning document", child.name)
		}
	}
	return c, nil
}

// at follows a path of types, nil if it leads nowhere.
func (c *characteristic) at(path ...string) *characteristic {
	for _, kind := range path {
		if c = c.child(kind); c == nil {
			return nil
		}
	}
	return c
}

func (c *characteristic) child(kind string) *characteristic {
	if c == nil {
		return nil
	}
	at := slices.IndexFunc(c.children, func(i *characteristic) bool { return i.kind == kind })
	if at < 0 {
		return nil
	}
	return c.children[at]
}

// get is the value of a parm; there is false if it is missing.
func (c *characteristic) get(name string) (value string, there bool) {
	if c == nil {
		return "", false
	}
	for _, p := range c.parms {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

func (c *characteristic) value(name string) string {
	value, _ := c.get(name)
	return value
}

// check compares a parm with its datatype, which must be given under WSTEP and DMClient (windows.md section 1.7).
func (p parm) check() error {
	switch p.datatype {
	case "string":
		return nil
	case "integer":
		if _, err := strconv.Atoi(p.value); err != nil {
			return fmt.Errorf("%s is %q and no integer", p.name, p.value)
		}
		return nil
	case "boolean":
		if p.value != "true" && p.value != "false" {
			return fmt.Errorf("%s is %q; true and false are possible", p.name, p.value)
		}
		return nil
	}
	return fmt.Errorf("%s has the datatype %q; string, integer and boolean are possible", p.name, p.datatype)
}

// certificates are the certificates below a store: nodes named by the thumbprint, with a parm EncodedCertificate.
func (c *characteristic) certificates(store string) ([]*x509.Certificate, error) {
	if c == nil {
		return nil, nil
	}
	var out []*x509.Certificate
	for _, node := range c.children {
		if node.kind == "PrivateKeyContainer" {
			continue
		}
		cert, err := node.certificate()
		if err != nil {
			return nil, fmt.Errorf("CertificateStore/%s/%s: %w", store, node.kind, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

func (c *characteristic) certificate() (*x509.Certificate, error) {
	text, there := c.get("EncodedCertificate")
	if !there {
		return nil, errors.New("there is no parm EncodedCertificate")
	}
	if strings.ContainsAny(text, " \t\r\n") {
		return nil, errors.New("EncodedCertificate must be base64 on one line")
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("EncodedCertificate must be base64")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("EncodedCertificate holds no certificate")
	}
	if thumbprint(cert) != c.kind {
		return nil, fmt.Errorf("the name must be the certificate's SHA-1 in 40 upper-case hexadecimal digits, %s", thumbprint(cert))
	}
	return cert, nil
}

// thumbprint is how Windows names a certificate.
func thumbprint(cert *x509.Certificate) string {
	sum := sha1.Sum(cert.Raw) //nolint:gosec // a name, no protection
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}
