"""The customers and suppliers of TechStore, some of the customers as dirty as in real life."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from random import Random

from techstore.model import ANCHOR, FIRST_DAY, Customer, Supplier
from techstore.words import (
    CITIES,
    FIRST_NAMES,
    LAST_NAMES,
    MAIL_DOMAINS,
    SUPPLIERS,
)

BEFORE = 650  # customers from before the history
DURING = 310  # customers who came during it
CUIT_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
DIRTY_EMAIL_EVERY = 16
NULL_PHONES = 24
NULL_CITIES = 7
DUPLICATE = ("Lucía", "Fernández", "lucia.fernandez@gmail.example")


def moment(rng: Random, day: date, first_hour: int = 9, last_hour: int = 22) -> datetime:
    """A random moment of a day."""
    seconds = rng.randrange(first_hour * 3600, (last_hour + 1) * 3600)
    return datetime.combine(day, time()) + timedelta(
        seconds=seconds, microseconds=rng.randrange(1_000_000)
    )


def ascii_only(text: str) -> str:
    """Without accents, as people write their e-mail address."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def phone(rng: Random, area: str, style: int | None = None) -> str:
    """A phone number in one of the three ways people write it."""
    local = f"{rng.randrange(10 ** (10 - len(area) - 4)):0{10 - len(area) - 4}d}"
    local = "5" * min(3, len(local)) + local[3:]
    last = f"{rng.randrange(10_000):04d}"
    style = rng.choice((0, 0, 1, 2)) if style is None else style
    if style == 0:
        return f"+54 9 {area} {local}-{last}"
    if style == 1:
        return f"0{area}-15-{local}-{last}"
    return f"{area}{local}{last}"


def _arrivals(rng: Random) -> list[datetime]:
    opened = date(2021, 3, 1)
    old = (FIRST_DAY - opened).days
    days = [opened + timedelta(days=int(old * rng.random() ** 0.7)) for _ in range(BEFORE)]
    days += [FIRST_DAY + timedelta(days=rng.randrange(376)) for _ in range(DURING)]
    return sorted(moment(rng, day) for day in days)


def _email(rng: Random, first: str, last: str, taken: set[str]) -> str:
    domain = rng.choices([d for d, _ in MAIL_DOMAINS], [w for _, w in MAIL_DOMAINS])[0]
    first, last = ascii_only(first).lower(), ascii_only(last).lower()
    name = rng.choice((f"{first}.{last}", f"{first}{last}", f"{first[0]}{last}", f"{last}.{first}"))
    if rng.random() < 0.35:
        name += str(rng.randrange(65, 100))
    email, number = f"{name}@{domain}", 2
    while email in taken:
        email, number = f"{name}{number}@{domain}", number + 1
    taken.add(email)
    return email


def _dirtied(rng: Random, email: str) -> str:
    upper = rng.choice((email.upper(), email.title(), email))
    blank = rng.choice((f" {upper}", f"{upper} ", f"  {upper} "))
    return blank if upper == email else rng.choice((upper, blank))


def make_customers(rng: Random) -> list[Customer]:
    """All customers in the order of their creation."""
    taken = {DUPLICATE[2]}
    people: list[Customer] = []
    for number, created in enumerate(_arrivals(rng), start=1):
        day = created.date()
        first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
        city, province, area, _ = rng.choices(CITIES, [c[3] for c in CITIES])[0]
        email = _email(rng, first, last, taken)
        updated = created
        if rng.random() < 0.3:
            spare = max((ANCHOR - day).days - 1, 0)
            updated = max(created, moment(rng, day + timedelta(days=rng.randrange(spare + 1))))
        until = None
        if rng.random() < 0.3:
            until = max(day, FIRST_DAY) + timedelta(days=rng.randrange(20, 300))
        people.append(
            Customer(
                customer_id=number,
                email=_dirtied(rng, email) if number % DIRTY_EMAIL_EVERY == 5 else email,
                first_name=first,
                last_name=last,
                phone=phone(rng, area),
                city=city,
                province=province,
                created_at=created,
                updated_at=updated,
                weight=min(rng.paretovariate(1.3), 7.0),
                until=until,
            )
        )
    for at in rng.sample(range(len(people)), NULL_PHONES):
        people[at] = replace(people[at], phone=None)
    for at in rng.sample(range(len(people)), NULL_CITIES):
        people[at] = replace(people[at], city=None)
    _enter_twice(people)
    return people


def _enter_twice(people: list[Customer]) -> None:
    """One person has two accounts: the address differs in case and a blank only."""
    first, last, email = DUPLICATE
    city, province, _, _ = CITIES[0]
    for at, address, number in (
        (200, email, "+54 9 11 5552-4417"),
        (BEFORE + 60, " " + email.title(), "011-15-5552-4417"),
    ):
        people[at] = replace(
            people[at],
            email=address,
            first_name=first,
            last_name=last,
            phone=number,
            city=city,
            province=province,
            weight=2.5,
            until=None,
        )


def _cuit(rng: Random) -> str:
    while True:
        digits = "30" + f"{rng.randrange(50_000_000, 72_000_000)}"
        check = 11 - sum(int(d) * w for d, w in zip(digits, CUIT_WEIGHTS, strict=True)) % 11
        if check != 10:  # such numbers are not given out under prefix 30
            return f"{digits[:2]}-{digits[2:]}-{check % 11}"


def make_suppliers(rng: Random) -> list[Supplier]:
    """All suppliers; one of them is no longer active."""
    roles = ("ventas", "logística", "administración", "posventa")
    suppliers = []
    for number, (name, country, lead, late) in enumerate(SUPPLIERS, start=1):
        domain = "".join(ascii_only(name).lower().split()[:2]).replace(".", "") + ".example"
        contacts = []
        for role in roles[: rng.randrange(1, 4)]:
            first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
            contacts.append(
                {
                    "name": f"{first} {last}",
                    "email": f"{ascii_only(first)}.{ascii_only(last)}@{domain}".lower(),
                    "phone": phone(rng, "11", 0),
                    "role": role,
                }
            )
        suppliers.append(
            Supplier(
                supplier_id=number,
                name=name,
                cuit=_cuit(rng),
                country=country,
                lead_time_days=lead,
                late_share=late,
                active=number != 10,
                since=date(rng.randrange(2008, 2024), rng.randrange(1, 13), rng.randrange(1, 29)),
                contacts=contacts,
            )
        )
    return suppliers
