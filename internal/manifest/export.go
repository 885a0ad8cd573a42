package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/waxseal/waxseal/profiles"
)

// Export writes objects as a YAML file that Load reads again, contents of side files inline.
func Export(objects []profiles.Object) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		if i > 0 {
			out.WriteString("---\n")
		}
		encoded, err := json.Marshal(inline(o))
		if err != nil {
			return nil, fmt.Errorf("exporting %s %s: %w", o.Kind, o.Name, err)
		}
		text, err := yaml.JSONToYAML(encoded)
		if err != nil {
			return nil, fmt.Errorf("exporting %s %s: %w", o.Kind, o.Name, err)
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// inline drops the name of a file whose content the object holds.
func inline(o profiles.Object) profiles.Object {
	switch spec := o.Spec.(type) {
	case *profiles.TrustedCertificate:
		if bare := *spec; len(bare.Certificate) > 0 {
			bare.CertificateFile = ""
			o.Spec = &bare
		}
	case *profiles.Custom:
		if bare := *spec; len(bare.Content) > 0 {
			bare.File = ""
			o.Spec = &bare
		}
	}
	return o
}
