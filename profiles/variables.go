package profiles

import (
	"fmt"
	"strings"
)

// Vars are the values of the variables for one user on one device (Microsoft Learn: subject name format of PKCS and
// SCEP profiles). An empty value cannot be resolved.
type Vars struct {
	UserName                    string // the user's display name
	UserPrincipalName           string
	EmailAddress                string
	OnPremisesSAMAccountName    string
	OnPremisesDistinguishedName string
	OnPremisesSecurityID        string
	Department                  string
	DeviceID                    string // the id that this server gave the device
	AADDeviceID                 string
	DeviceName                  string
	SerialNumber                string
	IMEI                        string
	MEID                        string
	WiFiMAC                     string
	FullyQualifiedDomainName    string
}

// VarsFor are the variables that come from the user alone.
func VarsFor(upn string, u *User) Vars {
	v := Vars{UserName: u.DisplayName, UserPrincipalName: upn, OnPremisesSAMAccountName: u.SAMAccountName,
		OnPremisesDistinguishedName: u.OnPremisesDistinguishedName, OnPremisesSecurityID: u.OnPremisesSecurityIdentifier, Department: u.Department}
	if len(u.Addresses) > 0 {
		v.EmailAddress = u.Addresses[0]
	}
	return v
}

// UnresolvableError says that a variable has no value here, or does not exist at all.
type UnresolvableError struct {
	Variable string // as written, without braces
	Unknown  bool   // no variable has this name
}

func (e *UnresolvableError) Error() string {
	if e.Unknown {
		return fmt.Sprintf("variable {{%s}} does not exist; known are %s", e.Variable, strings.Join(VariableNames(), ", "))
	}
	return fmt.Sprintf("variable {{%s}} has no value for this user and device", e.Variable)
}

// VariableNames are the variables in their documented spelling; names are matched without regard to case, because the
// documentation itself mixes cases.
func VariableNames() []string {
	return []string{"UserName", "UserPrincipalName", "EmailAddress", "OnPremisesSamAccountName",
		"OnPrem_Distinguished_Name", "OnPremisesSecurityIdentifier", "Department", "DeviceId", "AAD_Device_ID",
		"AzureADDeviceId", "DeviceName", "SerialNumber", "Device_Serial", "IMEI", "IMEINumber", "Device_IMEI", "MEID",
		"WiFiMacAddress", "FullyQualifiedDomainName"}
}

// lookup gives the value of a variable and whether it exists.
func (v Vars) lookup(name string) (value string, known bool) {
	switch strings.ToLower(name) {
	case "username":
		return v.UserName, true
	case "userprincipalname":
		return v.UserPrincipalName, true
	case "emailaddress":
		return v.EmailAddress, true
	case "onpremisessamaccountname":
		return v.OnPremisesSAMAccountName, true
	case "onprem_distinguished_name":
		return v.OnPremisesDistinguishedName, true
	case "onpremisessecurityidentifier":
		return v.OnPremisesSecurityID, true
	case "department":
		return v.Department, true
	}
	return v.lookupDevice(name)
}

func (v Vars) lookupDevice(name string) (value string, known bool) {
	switch strings.ToLower(name) {
	case "deviceid":
		return v.DeviceID, true
	case "aad_device_id", "azureaddeviceid":
		return v.AADDeviceID, true
	case "devicename":
		return v.DeviceName, true
	case "serialnumber", "device_serial":
		return v.SerialNumber, true
	case "imei", "imeinumber", "device_imei":
		return v.IMEI, true
	case "meid":
		return v.MEID, true
	case "wifimacaddress":
		return v.WiFiMAC, true
	case "fullyqualifieddomainname":
		return v.FullyQualifiedDomainName, true
	}
	return "", false
}

// Expand replaces the variables of a template. Values are never expanded again. An unresolvable variable gives an
// *UnresolvableError that names it.
func Expand(template string, v Vars) (string, error) {
	return expand(template, func(name string) (string, error) {
		value, known := v.lookup(name)
		if value == "" {
			return "", &UnresolvableError{Variable: name, Unknown: !known}
		}
		return value, nil
	})
}

// CheckTemplate reports broken braces and variables that do not exist.
func CheckTemplate(template string) error {
	_, err := expand(template, func(name string) (string, error) {
		if _, known := (Vars{}).lookup(name); !known {
			return "", &UnresolvableError{Variable: name, Unknown: true}
		}
		return "", nil
	})
	return err
}

// warnNoValue warns of variables of devices that no platform reports, so that every device would wait.
func warnNoValue(r *report, field, template string) {
	_, _ = expand(template, func(name string) (string, error) { // its faults are reported elsewhere
		switch strings.ToLower(name) {
		case "aad_device_id", "azureaddeviceid", "meid", "wifimacaddress", "fullyqualifieddomainname":
			r.warn(field, "nothing gives the variable {{%s}} a value yet: every device would wait for it", name)
		}
		return "", nil
	})
}

// hasVariables tells a template, right or wrong, from text that stays as it is.
func hasVariables(text string) bool {
	return strings.Contains(text, "{{") || strings.Contains(text, "}}")
}

// expand calls resolve for each {{name}} of a template.
func expand(template string, resolve func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for rest := template; ; {
		before, after, found := strings.Cut(rest, "{{")
		if strings.Contains(before, "}}") {
			return "", fmt.Errorf("%q has }} without {{ before it", template)
		}
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, next, closed := strings.Cut(after, "}}")
		if name = strings.TrimSpace(name); !closed || strings.ContainsAny(name, "{}") {
			return "", fmt.Errorf("%q has {{ without }} after it", template)
		}
		value, err := resolve(name)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		rest = next
	}
}

// ExpandNames expands the values of subject alternative names. Mail addresses come first, because iOS looks at the
// first rfc822Name only, and {{OnPremisesSecurityIdentifier}} in a URI takes the form of Microsoft's strong mapping.
func ExpandNames(names []SubjectAlternativeName, v Vars) ([]SubjectAlternativeName, error) {
	var mail, others []SubjectAlternativeName
	for _, name := range names {
		vars := v
		if name.Type == SANURI && v.OnPremisesSecurityID != "" {
			vars.OnPremisesSecurityID = "tag:microsoft.com,2022-09-14:sid:" + v.OnPremisesSecurityID
		}
		value, err := Expand(name.Value, vars)
		if err != nil {
			return nil, fmt.Errorf("subject alternative name %s: %w", name.Type, err)
		}
		expanded := SubjectAlternativeName{Type: name.Type, Value: value}
		if name.Type == SANEmail {
			if err := CheckAddress(value); err != nil {
				return nil, fmt.Errorf("subject alternative name email: %w", err)
			}
			mail = append(mail, expanded)
			continue
		}
		others = append(others, expanded)
	}
	return append(mail, others...), nil
}
