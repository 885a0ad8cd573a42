package mdm

// Error domains of Apple devices.
const (
	DomainProfile      = "MCProfileErrorDomain"
	DomainPayload      = "MCPayloadErrorDomain"
	DomainInstallation = "MCInstallationErrorDomain"
	DomainEmail        = "MCEmailErrorDomain"
	DomainCertificate  = "MCCertificateErrorDomain"
	DomainEAS          = "MCEASErrorDomain"
	DomainSCEP         = "MCSCEPErrorDomain"
	DomainMDM          = "MCMDMErrorDomain"
	DomainMacProfile   = "ConfigProfilePluginDomain"
	DomainMacSCEP      = "MDM-SCEP"
)

// ErrorMeaning says in words what an error of a device means, empty if it is not known. Apple promises nothing about
// the codes: the words are for people, no rule may hang on them.
func ErrorMeaning(domain string, code int) string {
	switch domain {
	case DomainProfile:
		return profileError(code)
	case DomainPayload:
		return payloadError(code)
	case DomainInstallation:
		return installationError(code)
	case DomainEmail:
		return emailError(code)
	case DomainCertificate:
		return certificateError(code)
	case DomainEAS:
		return easError(code)
	case DomainSCEP:
		return scepError(code)
	case DomainMDM:
		return mdmError(code)
	}
	return macError(domain, code)
}

func profileError(code int) string {
	return map[int]string{
		1000: "the profile is malformed",
		1001: "the profile has a version that the device does not know",
		1002: "a required field of the profile is missing",
		1003: "a field of the profile has the wrong type",
		1004: "the signature of the profile is bad",
		1005: "the profile is empty",
		1006: "the device cannot decrypt the profile: it was encrypted to another device certificate",
		1007: "two payloads of the profile have the same UUID",
		1008: "two payloads of the profile have the same identifier",
		1009: "the profile could not be installed",
		1010: "a field of the profile has a value that the device does not support",
	}[code]
}

func payloadError(code int) string {
	return map[int]string{
		2000: "a payload is malformed",
		2001: "a payload has a version that the device does not know",
		2002: "a required field of a payload is missing",
		2003: "a field of a payload has the wrong type",
		2004: "a field of a payload has a value that the device does not support",
	}[code]
}

func installationError(code int) string {
	return map[int]string{
		4000: "the device cannot read the profile",
		4001: "the profile could not be installed",
		4002: "another profile with the same UUID is installed",
		4009: "the device is locked",
		4010: "the identifier differs from that of the profile to be updated",
		4012: "the installed profile cannot be updated",
		4013: "the update of the profile failed",
		4015: "the new profile lacks the management payload of the installed one",
		4021: "the profile asks the user something, and nobody can be asked",
		4023: "the profile has a payload that is not acceptable here",
		4024: "the profile was not found",
	}[code]
}

func emailError(code int) string {
	return map[int]string{
		7000: "the mail server cannot be reached",
		7001: "the mail server refused user name or password",
		7002: "the mail account could not be checked",
		7003: "an S/MIME certificate that the account names is not in the profile",
		7004: "an S/MIME certificate of the account cannot be used",
		7005: "the IMAP settings are wrong",
		7006: "the POP settings are wrong",
		7007: "the SMTP settings are wrong",
	}[code]
}

func certificateError(code int) string {
	return map[int]string{
		9000: "wrong password of a PKCS#12 file (or a kind of PKCS#12 too new for the device)",
		9001: "a payload holds more than one certificate",
		9002: "the certificate cannot be stored",
		9004: "the root certificate cannot be stored",
		9005: "the certificate is malformed",
		9006: "the certificate comes without its private key",
	}[code]
}

func easError(code int) string {
	return map[int]string{
		21003: "the Exchange account has no host",
		21004: "the Exchange account cannot be created",
		21005: "another account for the same Exchange mailbox exists on the device",
		21006: "the certificate of the Exchange account cannot be decrypted",
		21007: "the Exchange account cannot be verified",
	}[code]
}

func scepError(code int) string {
	return map[int]string{
		22000: "SCEP: the key usage is not valid",
		22001: "SCEP: the key pair cannot be generated",
		22002: "SCEP: the CA's certificates cannot be read",
		22004: "SCEP: the configuration is not supported",
		22005: "SCEP: the server cannot be reached",
		22006: "SCEP: the server's GetCACaps offers too little",
		22007: "SCEP: the issued certificate is not valid",
		22008: "SCEP: the identity cannot be created",
		22013: "SCEP: the server's answer cannot be read",
	}[code]
}

func mdmError(code int) string {
	return map[int]string{
		12000: "the access rights are not valid",
		12007: "the server may not do this on the device",
		12008: "the command is malformed",
		12009: "the new management payload does not match the installed one",
		12012: "the new management payload does not match the installed one",
		12013: "the profile was not installed by management",
		12020: "the server refused the device",
		12021: "the device does not know the command",
		12022: "the push topic is not valid",
		12075: "the profile is not installed",
		12076: "per-user connections are not supported",
	}[code]
}

// macError knows the few errors that Macs report in domains of their own.
func macError(domain string, code int) string {
	switch {
	case domain == DomainMacProfile && code == -107:
		return "the profile is not valid (a duplicate UUID, or a field that the Mac does not accept)"
	case domain == DomainMacSCEP && code == 15002:
		return "SCEP: no certificate was obtained"
	}
	return ""
}
