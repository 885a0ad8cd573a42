package mde

// ContentType is the media type of requests and answers.
const ContentType = "application/soap+xml; charset=utf-8"

// The values of a:Action (windows.md 1.1).
const (
	ActionDiscover            = nsDiscovery + "/IDiscoveryService/Discover"
	ActionDiscoverResponse    = nsDiscovery + "/IDiscoveryService/DiscoverResponse"
	ActionGetPolicies         = nsPolicy + "/IPolicy/GetPolicies"
	ActionGetPoliciesResponse = nsPolicy + "/IPolicy/GetPoliciesResponse"
	ActionToken               = nsEnrollment + "/RST/wstep"
	ActionTokenResponse       = nsEnrollment + "/RSTRC/wstep"
)

// The values of AuthPolicy: how the user proves who he is.
const (
	AuthOnPremise   = "OnPremise"
	AuthFederated   = "Federated"
	AuthCertificate = "Certificate"
)

// The values of RequestType.
const (
	RequestIssue = nsTrust + "/Issue"
	RequestRenew = nsTrust + "/Renew"
)

// The values of TokenType and ValueType.
const (
	TokenTypeDevice = nsToken + "/DeviceEnrollmentToken"
	// ValueTypeUserToken marks the token that the sign-in page gave, in the header.
	ValueTypeUserToken = nsToken + "/DeviceEnrollmentUserToken"
	// ValueTypeJWT marks a token of an Entra join, in the header.
	ValueTypeJWT          = "urn:ietf:params:oauth:token-type:jwt"
	ValueTypePKCS10       = nsEnrollment + "#PKCS10"
	ValueTypePKCS7        = nsEnrollment + "#PKCS7"
	valueTypePKCS7Sample  = nsSecurity + "#PKCS7" // as Microsoft's sample of a renewal has it
	valueTypeProvisioning = nsToken + "/DeviceEnrollmentProvisionDoc"
	encodingBase64        = nsSecurity + "#base64binary"
)

// Namespaces.
const (
	nsSOAP       = "http://www.w3.org/2003/05/soap-envelope"
	nsAddressing = "http://www.w3.org/2005/08/addressing"
	nsUtility    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	nsSecurity   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	nsDiscovery  = "http://schemas.microsoft.com/windows/management/2012/01/enrollment"
	nsPolicy     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	nsEnrollment = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
	nsToken      = "http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment"
	nsInstance   = "http://www.w3.org/2001/XMLSchema-instance"
)
