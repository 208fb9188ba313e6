"""Tokens by construction: right ones of several kinds of key, and several hundred that must never be accepted."""

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com"
AUDIENCE = "muster"
NOW = 1_800_000_000

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
#: The issuer's, too, for ES384 alone.
P384_KEY = ec.generate_private_key(ec.SECP384R1())
#: Known to nobody.
OTHER_RSA = rsa.generate_private_key(65537, 2048)
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
OTHER_ED = ed25519.Ed25519PrivateKey.generate()

#: By key id: the algorithm that each is used with, and the key.
SIGNERS: dict[str, tuple[str, Any]] = {
    "rs": ("RS256", RSA_KEY),
    "ps": ("PS256", RSA_KEY),
    "es": ("ES256", EC_KEY),
    "ed": ("EdDSA", ED_KEY),
}
STRANGERS: dict[str, Any] = {"rs": OTHER_RSA, "ps": OTHER_RSA, "es": OTHER_EC, "ed": OTHER_ED}


def key_set(key_ids: Collection[str] = (*SIGNERS, "p384")) -> bytes:
    """What the issuer publishes."""
    keys = {**{key_id: key for key_id, (_, key) in SIGNERS.items()}, "p384": P384_KEY}
    return json.dumps({"keys": [_jwk(key, key_id) for key_id, key in keys.items() if key_id in key_ids]}).encode()


def strangers_key_set() -> bytes:
    """What somebody else publishes under the issuer's key ids."""
    return json.dumps({"keys": [_jwk(key, key_id) for key_id, key in STRANGERS.items()]}).encode()


def _jwk(private: Any, key_id: str) -> dict[str, Any]:
    """The public key as a set lists it."""
    public = private.public_key()
    said: dict[str, Any]
    match private:
        case rsa.RSAPrivateKey():
            said = RSAAlgorithm.to_jwk(public, as_dict=True)
        case ec.EllipticCurvePrivateKey():
            said = ECAlgorithm.to_jwk(public, as_dict=True)
        case _:
            said = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {name: value for name, value in said.items() if name != "key_ops"} | {"kid": key_id}


def certificate(private: Any) -> x509.Certificate:
    """A certificate that the key has signed for itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "login.example.com")])
    start = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=private.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=9))
    return builder.sign(private, None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a right token; a change to None leaves the claim out."""
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "shop",
        "scope": "users:read users:write",
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 600,
    }
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


def sign(key_id: str = "ed", said: Any = None, *, header: dict[str, Any] | None = None, key: Any = None) -> str:
    """A token as that key signs it; `header` changes its header, `key` signs instead."""
    algorithm, own = SIGNERS[key_id]
    head = {"alg": algorithm, "typ": "at+jwt", "kid": key_id, **(header or {})}
    return sign_raw(
        json.dumps({name: value for name, value in head.items() if value is not None}).encode(),
        json.dumps(claims() if said is None else said).encode(),
        algorithm=algorithm,
        key=key or own,
    )


def sign_raw(header: bytes, payload: bytes, *, algorithm: str, key: Any) -> str:
    """A token of these very bytes."""
    signing = encode(header) + "." + encode(payload)
    made = jwt.PyJWS().get_algorithm_by_name(algorithm)
    return f"{signing}.{encode(made.sign(signing.encode(), made.prepare_key(key)))}"


def encode(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _public_forms() -> Iterator[tuple[str, bytes]]:
    """The public keys as bytes that somebody may take for a shared secret."""
    for name, key in (("rsa", RSA_KEY), ("ec", EC_KEY), ("ed", ED_KEY)):
        public = key.public_key()
        yield f"{name}-pem", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        yield f"{name}-der", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    yield "jwks", key_set()
    yield "empty", b""


def _unsigned() -> Iterator[tuple[str, str]]:
    spellings = ("none", "None", "NONE", "nOnE", "none ", " none", "none\0", "", "null", "noné", "non\u0435")
    payload = encode(json.dumps(claims()).encode())
    for number, spelling in enumerate(spellings):
        header = encode(json.dumps({"alg": spelling, "typ": "at+jwt", "kid": "ed"}).encode())
        yield f"unsigned-{number}", f"{header}.{payload}."
        yield f"unsigned-with-signature-{number}", f"{header}.{payload}.{sign().rpartition('.')[2]}"
    for alg in (None, 0, True, [], {}, ["EdDSA"], {"alg": "EdDSA"}):
        header = encode(json.dumps({"alg": alg, "typ": "at+jwt", "kid": "ed"}).encode())
        yield f"algorithm-is-{type(alg).__name__}", f"{header}.{payload}.{sign().rpartition('.')[2]}"


def _confused() -> Iterator[tuple[str, str]]:
    payload = encode(json.dumps(claims()).encode())
    for name, secret in _public_forms():
        for size in (256, 384, 512):
            for key_id in ("rs", "ed"):
                header = encode(json.dumps({"alg": f"HS{size}", "typ": "at+jwt", "kid": key_id}).encode())
                signing = f"{header}.{payload}"
                mac = hmac.new(secret, signing.encode(), getattr(hashlib, f"sha{size}")).digest()
                yield f"hs{size}-{key_id}-{name}", f"{signing}.{encode(mac)}"
    for key_id, (algorithm, _) in SIGNERS.items():
        for other, (said, _) in SIGNERS.items():
            if said != algorithm and other != key_id:
                yield f"{key_id}-signed-says-{said}", sign(key_id, header={"alg": said})
                yield f"{key_id}-signed-as-{other}", sign(key_id, header={"alg": said, "kid": other})


def _strangers(keys_at: str) -> Iterator[tuple[str, str]]:
    for key_id, stranger in STRANGERS.items():
        yield f"stranger-{key_id}", sign(key_id, key=stranger)
        yield f"stranger-{key_id}-without-kid", sign(key_id, key=stranger, header={"kid": None})
        for name, value in (
            ("jwk", _jwk(stranger, key_id)),
            ("jku", f"{keys_at}/jwks.json"),
            ("x5u", f"{keys_at}/{key_id}.pem"),
            ("x5c", [base64.b64encode(certificate(stranger).public_bytes(Encoding.DER)).decode()]),
        ):
            yield f"stranger-{key_id}-brings-{name}", sign(key_id, key=stranger, header={name: value})
            unnamed = {name: value, "kid": None}
            yield f"stranger-{key_id}-brings-{name}-without-kid", sign(key_id, key=stranger, header=unnamed)


def _other_curves() -> Iterator[tuple[str, str]]:
    """Keys with the algorithm of another curve: the issuer's own, and a stranger's."""
    p256 = ("es", EC_KEY), ("p384", OTHER_EC)
    p384 = ("p384", P384_KEY), ("es", P384_KEY), ("es", OTHER_CURVE)
    for algorithm, keys in (("ES256", p384), ("ES384", p256), ("ES512", (*p256, *p384))):
        for number, (key_id, key) in enumerate(keys):
            name = f"{key.curve.name}-{number}-says-{algorithm}-of-{key_id}"
            yield name, _sign_with_curve(algorithm, key_id, key)
            yield f"{name}-without-kid", _sign_with_curve(algorithm, None, key)
    yield "other-curve", _sign_with_curve("ES384", "p384", OTHER_CURVE)


def _sign_with_curve(algorithm: str, key_id: str | None, key: ec.EllipticCurvePrivateKey) -> str:
    """A token with the algorithm's hash, and a signature as long as the key's curve has it."""
    head = {"alg": algorithm, "typ": "at+jwt"} | ({} if key_id is None else {"kid": key_id})
    signing = f"{encode(json.dumps(head).encode())}.{encode(json.dumps(claims()).encode())}"
    digest = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[algorithm]
    size = (key.curve.key_size + 7) // 8
    numbers = decode_dss_signature(key.sign(signing.encode(), ec.ECDSA(digest)))
    return f"{signing}.{encode(b''.join(number.to_bytes(size, 'big') for number in numbers))}"


def _headers() -> Iterator[tuple[str, str]]:
    crits: tuple[Any, ...] = (["exp"], ["b64"], [], "exp", None, {})
    for crit in crits:
        header = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed", "crit": crit}).encode()
        yield f"crit-{crit}", sign_raw(header, json.dumps(claims()).encode(), algorithm="EdDSA", key=ED_KEY)
    for kind in ("dpop+jwt", "id_token", "JWE", "at+jwt ", "", 1, ["JWT"], "logout+jwt", "application/at", "jwt;x"):
        yield f"typ-{kind}", sign(header={"typ": kind})
    for key_id in (
        "../../../../dev/null",
        "/etc/passwd",
        "ed' OR '1'='1",
        "ed\0",
        "ed; DROP TABLE users",
        "ED",
        " ed",
        "",
        "éd",
        "${jndi:ldap://x}",
        "a" * 4000,
        "http://127.0.0.1/",
    ):
        yield f"kid-{key_id[:20]}", sign(header={"kid": key_id})
    others: tuple[Any, ...] = (1, True, ["ed"], {"kid": "ed"})
    for other in others:
        yield f"kid-is-{type(other).__name__}", sign(header={"kid": other})
    yield "b64-false", sign(header={"b64": False})
    for header in (
        b'{"alg":"EdDSA","kid":"ed","typ":null}',
        b'{"alg":"EdDSA","kid":null}',
        b'{"alg":"EdDSA","alg":"EdDSA","kid":"ed"}',
        b'{"alg":"none","alg":"EdDSA","kid":"ed"}',
        b'{"alg":"EdDSA","kid":"ed","kid":"ed"}',
        b'{"alg":"EdDSA","kid":"ed","x":NaN}',
        b'{"alg":"EdDSA","kid":"ed"',
        b'["EdDSA"]',
        b'"EdDSA"',
        b"null",
        b"",
        b"\xff\xfe",
        b'\xef\xbb\xbf{"alg":"EdDSA","kid":"ed"}',
        b'{"alg":"EdDSA","kid":"ed"}{}',
        b"[" * 3000,
    ):
        yield f"header-{header[:40]!r}", sign_raw(header, json.dumps(claims()).encode(), algorithm="EdDSA", key=ED_KEY)


def _claims() -> Iterator[tuple[str, str]]:
    for name in ("iss", "aud", "sub", "exp"):
        yield f"without-{name}", sign(said=claims(**{name: None}))
    for issuer in (
        "https://login.example.com/",
        "https://LOGIN.example.com",
        "http://login.example.com",
        "",
        1,
        [ISSUER],
    ):
        yield f"issuer-{issuer}", sign(said=claims(iss=issuer))
    for audience in ("Muster", "", "muster ", [], ["other"], [["muster"]], {"muster": 1}, 1, True, ["muster", 1]):
        yield f"audience-{audience}", sign(said=claims(aud=audience))
    for subject in (
        "",
        1,
        True,
        ["shop"],
        "self",
        "SELF",
        "Self",
        "cli:root",
        "CLI:root",
        "cli:",
        "sha256:00",
        "SHA256:ff",
        "x" * 256,
        "é" * 50,
        "\ud800",
    ):
        yield f"subject-{subject!r:.20}", sign(said=claims(sub=subject))
        yield f"actor-{subject!r:.20}", sign(said=claims(act={"sub": subject}))
    actors: tuple[Any, ...] = ({}, "shop", [], 1, {"iss": "x"}, {"sub": None})
    for actor in actors:
        yield f"act-{actor}", sign(said=claims(act=actor))


def _times_and_scopes() -> Iterator[tuple[str, str]]:
    expiries: tuple[Any, ...] = (
        "1800000600",
        -1,
        0,
        NOW - 31,
        NOW - 1000,
        True,
        [NOW + 9],
        {},
        253402300800,
        10**30,
        10**400,
        "",
        "now",
    )
    for expiry in expiries:
        yield f"expires-{str(expiry)[:20]}", sign(said=claims(exp=expiry))
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1e309", b"1" * 5000):
        payload = json.dumps(claims(exp=1)).encode().replace(b'"exp": 1', b'"exp": ' + text)
        header = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}).encode()
        yield f"expires-{text[:12]!r}", sign_raw(header, payload, algorithm="EdDSA", key=ED_KEY)
    for name in ("nbf", "iat"):
        times: tuple[Any, ...] = (NOW + 31, NOW + 10_000, "0", -1, True, [], {}, 10**400)
        for time in times:
            yield f"{name}-{str(time)[:20]}", sign(said=claims(**{name: time}))
    for scope in (1, True, ["users:read"], {"users:read": 1}):
        yield f"scope-{scope}", sign(said=claims(scope=scope))
        if not isinstance(scope, list):
            yield f"scp-{scope}", sign(said=claims(scope=None, scp=scope))
    yield "scp-list-of-numbers", sign(said=claims(scope=None, scp=[1]))


def _payloads() -> Iterator[tuple[str, str]]:
    header = json.dumps({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}).encode()
    whole = json.dumps(claims()).encode()
    for payload in (
        whole[:-1] + b',"sub":"admin"}',
        whole[:-1] + b',"exp":99999999999}',
        whole[:-1] + b',"x":{"a":1,"a":2}}',
        whole[:-1],
        b"[" + whole + b"]",
        b'"' + b"x" * 20 + b'"',
        b"null",
        b"",
        b"\xff" + whole,
        whole + whole,
        b'{"a":' * 3000,
    ):
        yield f"claims-{payload[-24:]!r}", sign_raw(header, payload, algorithm="EdDSA", key=ED_KEY)
    nested = encode(sign().encode())
    yield "nested", sign_raw(header, json.dumps(sign()).encode(), algorithm="EdDSA", key=ED_KEY)
    yield "nested-encoded", f"{nested}.{nested}.{nested}"


def _texts() -> Iterator[tuple[str, str]]:
    token = sign()
    header, payload, signature = token.split(".")
    for name, text in (
        ("two-parts", f"{header}.{payload}"),
        ("no-signature", f"{header}.{payload}."),
        ("five-parts", f"{token}.{payload}.{signature}"),
        ("swapped", f"{payload}.{header}.{signature}"),
        ("cut", token[:-4]),
        ("cut-by-one", token[:-1]),
        ("longer", token + "AAAA"),
        ("longer-by-one", token + "A"),
        ("padded", token + "="),
        ("padded-header", f"{header}=.{payload}.{signature}"),
        ("space", f"{header}. {payload}.{signature}"),
        ("tab", f"{header}.\t{payload}.{signature}"),
        ("other-alphabet", f"{header}.{payload}.{signature}".replace("-", "+").replace("_", "/") + "+"),
        ("fullwidth-dot", f"{header}\uff0e{payload}\uff0e{signature}"),
        ("fullwidth-letter", token.replace(token[5], chr(ord(token[5]) + 0xFEE0), 1)),
        ("zero-width", token[:10] + "\u200b" + token[10:]),
        ("nul", token[:10] + "\0" + token[10:]),
        ("newline-within", token[:10] + "\n" + token[10:]),
        ("upper", token.upper()),
        ("dots", ".."),
        ("one-dot", "."),
        ("word", "garbage"),
        ("json", json.dumps(claims())),
        ("too-long", sign(said=claims(padding="x" * 9000))),
        ("opaque", "ya29.a0AfH6SMBx"),
    ):
        yield f"text-{name}", text
    for position in (0, 3, len(header) - 1, len(header) + 5, len(token) - 20, len(token) - 3):
        changed = "A" if token[position] != "A" else "B"
        yield f"text-changed-at-{position}", token[:position] + changed + token[position + 1 :]
    # The last character has bits that decoding drops: other texts of the same bytes.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for step in (1, 2, 3):
        yield f"text-other-last-{step}", token[:-1] + last[(last.index(token[-1]) + step) % 64]


def forged(keys_at: str = "https://evil.example") -> list[tuple[str, str]]:
    """Every token that must be refused, with its name; some lead to keys at an address that the forger serves."""
    return [
        *_unsigned(),
        *_confused(),
        *_strangers(keys_at),
        *_other_curves(),
        *_headers(),
        *_claims(),
        *_times_and_scopes(),
        *_payloads(),
        *_texts(),
    ]
