"""Hashes of one password, made by implementations that are not ours.

Django 5.2.19 (fewer rounds than by default), passlib 1.7.4, libxcrypt, libsodium by PyNaCl 1.6.2, argon2-cffi 25.1.0,
firebase-scrypt 0.1.0 (PyPI) with the parameters that github.com/firebase/scrypt publishes, and an export of Keycloak
26.7.3 (`kc.sh export`), put together as docs/reference/password-hashes.md says.
"""

#: Of all but Firebase's own.
PASSWORD = "caf\u00e9 au lait"

FOREIGN = {
    "argon2-cffi, Argon2i of version 16": (
        "$argon2i$v=16$m=512,t=2,p=2$c2l4dGVlbiBieXRlcyAhIQ$0Jfok8rzPRQ8RIiI3meDZC57jyUPAO2oScXR9UBX3T4"
    ),
    "Django, Argon2id": (
        "argon2$argon2id$v=19$m=1024,t=2,p=8$SDk2NERWdXVlQ3BHRDZwUGk0TW1qWg$AJU51shIQXaD6BHtduCIYgc9HCiJmhQjvtGN2C5OV+s"
    ),
    "Django, bcrypt": "bcrypt$$2b$05$vYX0rRF2e8BbM9otCVPRcOmZ23UeVe2FO52oMbWt6fVNIWmEMYWJy",
    "Django, bcrypt of a SHA-256": "bcrypt_sha256$$2b$05$mXCFQ/MebUjs5FXMb1g/N.WEK9chq.DdUU9W2Kei9mAHXVeXI3NPG",
    "Django, PBKDF2 with SHA-1": "pbkdf2_sha1$1000$MhDIi0Evz8SdWVUSHEcNyw$lmzcbVdqN1v17o0DZE7Su6UDqLw=",
    "Django, PBKDF2 with SHA-256": (
        "pbkdf2_sha256$1000$YZaSEcEQHGeL3sPyzfX7jU$ci7jj0qR8hlMyhmJqBEi8FHpk+3uQrIl0Dcu6ALKkR0="
    ),
    "Django, scrypt": (
        "scrypt$1024$8PLt7rm4VCjCmGzKkez9Pa$8$5$NiNK3cp1Ovtg/PeN5krhEXc9/po4+Dz18Mk9w5Kh4hnUKr92YxzL2BhT+Wobi"
        "JycUh8qZB8s6e8Ony3u1Xtebw=="
    ),
    "Firebase": (
        "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUEC"
        "Kbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC+ixf3L2lw==$7SP4260Q+cTiYMNjAV0HAtmdBstA75TzMrQNhrhvYzBEjF0ve58km5Sx"
        "pUHrgT38mkwPSywlsMaWWfyU9+rPpQ=="
    ),
    "Keycloak, Argon2id": (
        "$argon2id$v=19$m=7168,t=5,p=1$lP2JhA8nliiU3p4Efm0jlg==$dxh0wdbVhJVAWXLR2RCm65jwZgr8zvqNU65Fo5x+YXU="
    ),
    "Keycloak, PBKDF2 with SHA-1": (
        "$pbkdf2$i=1300000$ZaNzGbsqMTdJG76NxN7GZw==$d9WubR/tXzlI1HHfNgLurRBP3MWKoBl2CugwKLLtLXrofI3MBOt42orE0"
        "tpOr5LTauaFyYMcRi5fw80XUx6e0A=="
    ),
    "Keycloak, PBKDF2 with SHA-256": (
        "$pbkdf2-sha256$i=600000$boQTqKQqkdrRigm6uPyAIw==$+LRAq9REemZYvln+fbLmJcMqzuWdG3JoTiQ1qUBcjq8="
    ),
    "Keycloak, PBKDF2 with SHA-512": (
        "$pbkdf2-sha512$i=210000$EBTn/865kGVqNnIrD5Mcvw==$1Wz5suUjb0xQ26+emrCfc0BI8c2whwvWhqRALi4Pf9OapL+Ps60"
        "Zl9Ps+lZA7eAaL+aA/wQfRDxKlWXqemIH3A=="
    ),
    "libsodium, $7$": (
        "$7$86..../....7MRmCb3TdHVNdkwOekDJBeC5JN7XAICHh8WIFAbPN05$xpOPj4BfVYBf/l3vBMMd5KAnJ2QTVSWSY7LAlBsqTRC"
    ),
    "libxcrypt, $7$": "$7$AU..../....eighteenletters$G1WRGzjQVtpjF//D2SAqsvf0lWyr14bvG7czvAMzLT8",
    "passlib, $2a$": "$2a$05$bClsU.9//jzEZ7ouUK8viO6dNCpAVatqj955Vi2sRK/IbyJTc41OG",
    "passlib, $2b$": "$2b$05$k0khz5SDfuoO8y72Ta/CPObfH0hCwWO/grJbeEgGpOs4N/UtPiJzq",
    "passlib, $2y$": "$2y$05$QDK.7UT.MT.hpJP3g4okuOFYYuRQD2rdQ.ZqkEOFNB.tBpzay.Ose",
    "passlib, $7$": "$7$86..../....AACAMAaAMCbkPOfcW6vVOg$2fvkgb6fjxMLsh0imVRPwJpuZVWHr9xF.vnkD4uck9B",
    "passlib, Argon2d": (
        "$argon2d$v=19$m=512,t=2,p=2$FSLkHCNkLGXsPYfw/r/Xug$lgFiM3Fi1bwcshFiu1GfEqKjiqXMxT+AwUp31bSnyHU"
    ),
    "passlib, Argon2i": (
        "$argon2i$v=19$m=512,t=2,p=2$npPSmtM6JyQE4Jwz5tw7Zw$R1U19rcRlgon4w8VQTmAHMtpalHhRFQ7619lHAukSxI"
    ),
    "passlib, Argon2id": (
        "$argon2id$v=19$m=512,t=2,p=2$UMr5f885p/T+fy8FQCgFwA$qsEnvbgAkbBjfsW+b0g/HsnhJCGy+pQcGIuaSGX4AVA"
    ),
    "passlib, as Django's Argon2i": (
        "argon2$argon2i$v=19$m=512,t=2,p=4$Z+ydcy7FeC8FACCE8F7rXQ$jydeutQY6BhCeTSbkhPw+4OoRnLe6IGkxy5GGY9Tquo"
    ),
    "passlib, PBKDF2 with SHA-1": "$pbkdf2$131000$XotxrjVGCMHY25sTYuydUw$1ju4IcdVjPlkm2z1qx1R3wpjd4E",
    "passlib, PBKDF2 with SHA-256": (
        "$pbkdf2-sha256$29000$xziH8B6jlPKeM8bYW.ud0w$Mifgh8YUqdTphZSXH/r1MZb5eVBPm6gsYVb8fh8TOWI"
    ),
    "passlib, PBKDF2 with SHA-512": (
        "$pbkdf2-sha512$25000$8r73PufcO6d0LgWgNOb8nw$Yp6vN242Qjz.YrVbOnpVRvoZsYG7neZvyojHxBxx/GiXBLYm.DjWfv0Q"
        "pDj3xHduDfgD/DgrgDwF3DE2Jo9lBA"
    ),
    "passlib, scrypt": "$scrypt$ln=10,r=8,p=1$wZiTstb63xvjfG8NgTDGGA$Bk1wSLAZQTa/nE7lR6mDleqZk5ht7hvPrvjnXfc1D0s",
}

#: The example of github.com/firebase/scrypt, whose password is `user1password`.
PUBLISHED_BY_FIREBASE = (
    "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUEC"
    "Kbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn"
    "3aoItz+VHjoZilo78198JAdRuid5lQ=="
)
