package stepca

import (
	"crypto/x509"
	"encoding/json"
	"errors"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// maxCertificates bounds what is read of a list of certificates.
const maxCertificates = 32

var errNotJSON = errors.New("step-ca's answer is not the JSON of its API: look whether url leads to step-ca itself")

// errorWords are the words of step-ca's errors.
func errorWords(body []byte) string {
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return web.Words(e.Message)
}

// parseSigned reads api.SignResponse: the certificate, the CA's, and all of the chain again.
func parseSigned(body []byte) ([]*x509.Certificate, error) {
	var signed struct {
		Certificate string   `json:"crt"`
		CA          string   `json:"ca"`
		Chain       []string `json:"certChain"`
	}
	if err := json.Unmarshal(body, &signed); err != nil {
		return nil, errNotJSON
	}
	if len(signed.Chain) == 0 {
		signed.Chain = []string{signed.Certificate, signed.CA}
	}
	return parsePEMs(signed.Chain)
}

// parseList reads the lists of roots and of intermediates (api.RootsResponse, api.IntermediatesResponse).
func parseList(body []byte) ([]*x509.Certificate, error) {
	var list struct {
		Certificates []string `json:"crts"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, errNotJSON
	}
	return parsePEMs(list.Certificates)
}

func parsePEMs(texts []string) ([]*x509.Certificate, error) {
	if len(texts) > maxCertificates {
		return nil, errors.New("step-ca's answer has too many certificates")
	}
	var out []*x509.Certificate
	for _, text := range texts {
		certs, err := ca.Certificates([]byte(text))
		if err != nil {
			return nil, errors.New("step-ca's answer has a certificate that does not parse")
		}
		if out = append(out, certs...); len(out) > maxCertificates {
			return nil, errors.New("step-ca's answer has too many certificates")
		}
	}
	if len(out) == 0 {
		return nil, errors.New("step-ca answered without a certificate")
	}
	return out, nil
}

// listed is what step-ca tells everybody of a provisioner.
type listed struct {
	Type string `json:"type"`
	Name string `json:"name"`
	Key  struct {
		ID string `json:"kid"`
	} `json:"key"`
	Claims struct {
		Max     string `json:"maxTLSCertDuration"`
		Default string `json:"defaultTLSCertDuration"`
	} `json:"claims"`
}

func parseProvisioners(body []byte) ([]listed, string, error) {
	var page struct {
		Provisioners []listed `json:"provisioners"`
		Next         string   `json:"nextCursor"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", errNotJSON
	}
	return page.Provisioners, page.Next, nil
}
