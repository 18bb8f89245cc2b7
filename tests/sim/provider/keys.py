"""Keys, certificates and signatures of the simulated providers.

Written from the providers' documents with the Debian package python3-cryptography; nothing here is
shared with the code that is tested.
"""
import base64
import datetime
import hashlib
import secrets

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID


def new_rsa():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption()).decode()


def public_pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM,
                                         serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def cert_pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def sign(key, message):
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def verify(key, message, signature):
    """Whether a base64 signature of the bytes is the key's; key: private or public."""
    public = key.public_key() if hasattr(key, 'public_key') else key
    try:
        public.verify(base64.b64decode(signature, validate=True), message, padding.PKCS1v15(),
                      hashes.SHA256())
        return True
    except (InvalidSignature, ValueError):
        return False


def name(common, org='Simulated Provider', unit='Certification', country='CN'):
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, country),
                      x509.NameAttribute(NameOID.ORGANIZATION_NAME, org),
                      x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                      x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(subject, key, issuer, issuer_key, now, days=1825, ca=False):
    """A certificate for the public half of key; serial numbers begin with a zero digit now and
    then, as real ones do."""
    start = datetime.datetime.utcfromtimestamp(now) - datetime.timedelta(days=1)
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
               .public_key(key.public_key()).serial_number(secrets.randbits(150) | 1)
               .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=days))
               .add_extension(x509.BasicConstraints(ca, None), critical=True))
    return builder.sign(issuer_key, hashes.SHA256())


def alipay_sn(cert):
    """md5 of issuer (RFC 2253) and decimal serial number."""
    return hashlib.md5((cert.issuer.rfc4514_string() + str(cert.serial_number)).encode()).hexdigest()


def alipay_root_sn(certs):
    """SNs of the roots signed with RSA, joined by underscores."""
    return '_'.join(alipay_sn(c) for c in certs
                    if c.signature_algorithm_oid.dotted_string.startswith('1.2.840.113549.1.1'))


def serial_hex(cert):
    """The serial number as WeChat Pay writes it: 40 upper-case hex digits."""
    return format(cert.serial_number, '040X')


def new_ec():
    return ec.generate_private_key(ec.SECP256R1())


def seal(api_key, plain, associated=''):
    """AES-256-GCM as WeChat Pay wraps a resource."""
    nonce = secrets.token_hex(6)
    data = AESGCM(api_key.encode()).encrypt(nonce.encode(), plain, associated.encode())
    return {'algorithm': 'AEAD_AES_256_GCM', 'ciphertext': base64.b64encode(data).decode(),
            'nonce': nonce, 'associated_data': associated}
