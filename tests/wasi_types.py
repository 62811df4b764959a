"""Types of WASI, as components that are written by hand import them."""

HTTP_ERRORS = """(type $dns-payload (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns-payload)))
    (type $tls-payload (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls-payload)))
    (type $size-payload (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $size (eq $size-payload)))
    (type $codes (variant
    (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found") (case "destination-unavailable")
    (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused")
    (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
    (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error")
    (case "TLS-certificate-error") (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
    (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
    (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
    (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $size))
    (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $size)
    (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
    (case "HTTP-response-header-size" $size) (case "HTTP-response-body-size" (option u64))
    (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $size)
    (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
    (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
    (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $code (eq $codes)))"""
"""Of wasi:http/types: `$code` is the error-code, inside the instance that it is put into."""
