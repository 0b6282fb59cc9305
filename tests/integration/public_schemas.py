"""Two schemas that everybody knows, written down here as far as they try a change data capture.

After the sample databases of MySQL's documentation, `sakila` (a film rental shop: a spatial column,
FULLTEXT, triggers, views, ENUM, SET, YEAR, foreign keys that cascade) and `employees` (composite
keys of dates, ON DELETE CASCADE, views over the newest row). The rows are made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

STAMP = "last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
SMALL, TINY = "SMALLINT UNSIGNED NOT NULL", "TINYINT UNSIGNED NOT NULL"


def _key(name: str, type_: str, end: str) -> str:
    return f"CONSTRAINT fk_{end} FOREIGN KEY ({name}) REFERENCES {type_}"


SAKILA_TABLES: Mapping[str, str] = {
    "actor": f"actor_id {SMALL} AUTO_INCREMENT PRIMARY KEY, first_name VARCHAR(45) NOT NULL,"
    f" last_name VARCHAR(45) NOT NULL, {STAMP}, KEY by_last_name (last_name)",
    "country": f"country_id {SMALL} AUTO_INCREMENT PRIMARY KEY, country VARCHAR(50) NOT NULL,"
    f" {STAMP}",
    "city": f"city_id {SMALL} AUTO_INCREMENT PRIMARY KEY, city VARCHAR(50) NOT NULL,"
    f" country_id {SMALL}, {STAMP},"
    + _key("country_id", "country (country_id) ON DELETE RESTRICT ON UPDATE CASCADE", "city"),
    "address": f"address_id {SMALL} AUTO_INCREMENT PRIMARY KEY, address VARCHAR(50) NOT NULL,"
    " address2 VARCHAR(50) DEFAULT NULL, district VARCHAR(20) NOT NULL,"
    f" city_id {SMALL}, postal_code VARCHAR(10) DEFAULT NULL, phone VARCHAR(20) NOT NULL,"
    f" location GEOMETRY NOT NULL /*!80003 SRID 0 */, {STAMP}, SPATIAL KEY by_place (location),"
    + _key("city_id", "city (city_id) ON DELETE RESTRICT ON UPDATE CASCADE", "address"),
    "language": f"language_id {TINY} AUTO_INCREMENT PRIMARY KEY, name CHAR(20) NOT NULL, {STAMP}",
    "film": f"film_id {SMALL} AUTO_INCREMENT PRIMARY KEY, title VARCHAR(128) NOT NULL,"
    f" description TEXT, release_year YEAR DEFAULT NULL, language_id {TINY},"
    f" rental_duration {TINY} DEFAULT 3, rental_rate DECIMAL(4,2) NOT NULL DEFAULT 4.99,"
    " length SMALLINT UNSIGNED DEFAULT NULL, replacement_cost DECIMAL(5,2) NOT NULL DEFAULT 19.99,"
    " rating ENUM('G','PG','PG-13','R','NC-17') DEFAULT 'G', special_features"
    " SET('Trailers','Commentaries','Deleted Scenes','Behind the Scenes') DEFAULT NULL,"
    f" {STAMP}, KEY by_title (title),"
    + _key("language_id", "language (language_id) ON DELETE RESTRICT ON UPDATE CASCADE", "film"),
    "film_actor": f"actor_id {SMALL}, film_id {SMALL}, {STAMP}, PRIMARY KEY (actor_id, film_id),"
    + _key("actor_id", "actor (actor_id) ON DELETE CASCADE ON UPDATE CASCADE", "fa_actor")
    + ", "
    + _key("film_id", "film (film_id) ON DELETE CASCADE ON UPDATE CASCADE", "fa_film"),
    "film_text": "film_id SMALLINT NOT NULL PRIMARY KEY, title VARCHAR(255) NOT NULL,"
    " description TEXT, FULLTEXT KEY by_text (title, description)",
    "store": f"store_id {TINY} AUTO_INCREMENT PRIMARY KEY, manager_staff_id {TINY}, {STAMP},"
    " UNIQUE KEY by_manager (manager_staff_id)",
    "staff": f"staff_id {TINY} AUTO_INCREMENT PRIMARY KEY, first_name VARCHAR(45) NOT NULL,"
    " picture BLOB DEFAULT NULL, active BOOLEAN NOT NULL DEFAULT TRUE, username VARCHAR(16)"
    f" NOT NULL, password VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, {STAMP}",
    "inventory": "inventory_id MEDIUMINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
    f" film_id {SMALL}, store_id {TINY}, {STAMP},"
    + _key("film_id", "film (film_id) ON DELETE RESTRICT ON UPDATE CASCADE", "inventory"),
    "rental": "rental_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, rental_date DATETIME NOT NULL,"
    " inventory_id MEDIUMINT UNSIGNED NOT NULL, return_date DATETIME DEFAULT NULL,"
    f" {STAMP}, UNIQUE KEY (rental_date, inventory_id)",
    "payment": f"payment_id {SMALL} AUTO_INCREMENT PRIMARY KEY, rental_id INT DEFAULT NULL,"
    " amount DECIMAL(5,2) NOT NULL, payment_date DATETIME NOT NULL,"
    f" {STAMP}, "
    + _key("rental_id", "rental (rental_id) ON DELETE SET NULL ON UPDATE CASCADE", "payment"),
}
SAKILA_REST = (
    "CREATE TRIGGER film_inserted AFTER INSERT ON film FOR EACH ROW"
    " INSERT INTO film_text VALUES (new.film_id, new.title, new.description)",
    "CREATE TRIGGER film_updated AFTER UPDATE ON film FOR EACH ROW UPDATE film_text SET"
    " title = new.title, description = new.description WHERE film_id = old.film_id",
    "CREATE TRIGGER film_deleted AFTER DELETE ON film FOR EACH ROW"
    " DELETE FROM film_text WHERE film_id = old.film_id",
    "CREATE TRIGGER rental_dated BEFORE INSERT ON rental FOR EACH ROW"
    " SET new.rental_date = COALESCE(new.rental_date, NOW())",
    "CREATE VIEW film_list AS SELECT f.film_id, f.title, GROUP_CONCAT(a.last_name) AS actors"
    " FROM film f LEFT JOIN film_actor fa ON fa.film_id = f.film_id LEFT JOIN actor a"
    " ON a.actor_id = fa.actor_id GROUP BY f.film_id, f.title",
    "CREATE FUNCTION inventory_in_stock(p INT) RETURNS BOOLEAN READS SQL DATA"
    " RETURN NOT EXISTS (SELECT 1 FROM rental WHERE inventory_id = p AND return_date IS NULL)",
)
EMPLOYEES_TABLES: Mapping[str, str] = {
    "employees": "emp_no INT NOT NULL PRIMARY KEY, birth_date DATE NOT NULL, first_name"
    " VARCHAR(14) NOT NULL, last_name VARCHAR(16) NOT NULL, gender ENUM('M','F') NOT NULL,"
    " hire_date DATE NOT NULL",
    "departments": "dept_no CHAR(4) NOT NULL PRIMARY KEY, dept_name VARCHAR(40) NOT NULL UNIQUE",
    "dept_emp": "emp_no INT NOT NULL, dept_no CHAR(4) NOT NULL, from_date DATE NOT NULL,"
    " to_date DATE NOT NULL, PRIMARY KEY (emp_no, dept_no),"
    + _key("emp_no", "employees (emp_no) ON DELETE CASCADE", "de_emp")
    + ", "
    + _key("dept_no", "departments (dept_no) ON DELETE CASCADE", "de_dept"),
    "titles": "emp_no INT NOT NULL, title VARCHAR(50) NOT NULL, from_date DATE NOT NULL,"
    " to_date DATE, PRIMARY KEY (emp_no, title, from_date),"
    + _key("emp_no", "employees (emp_no) ON DELETE CASCADE", "titles"),
    "salaries": "emp_no INT NOT NULL, salary INT NOT NULL, from_date DATE NOT NULL, to_date DATE"
    " NOT NULL, PRIMARY KEY (emp_no, from_date),"
    + _key("emp_no", "employees (emp_no) ON DELETE CASCADE", "salaries"),
}
EMPLOYEES_REST = (
    "CREATE OR REPLACE VIEW dept_emp_latest_date AS SELECT emp_no, MAX(from_date) AS from_date,"
    " MAX(to_date) AS to_date FROM dept_emp GROUP BY emp_no",
)


def sakila_rows() -> Iterator[str]:
    """INSERTs into an empty sakila."""
    names = ", ".join(
        f"('P{n}', '{last}')" for n, last in enumerate(("GUINESS", "Ñandú", "O''Neil"))
    )
    yield f"INSERT INTO actor (first_name, last_name) VALUES {names}"
    yield "INSERT INTO country (country) VALUES ('Argentina'), ('Côte d''Ivoire')"
    yield "INSERT INTO city (city, country_id) VALUES ('Córdoba', 1), ('Abidjan', 2)"
    yield (
        "INSERT INTO address (address, district, city_id, phone, location) VALUES"
        " ('47 MySakila Drive', 'Alberta', 1, '', ST_GeomFromText('POINT(-112.8 49.7)')),"
        " ('28 MySQL Boulevard', '', 2, '5', ST_GeomFromText('LINESTRING(0 0, 1 2)'))"
    )
    yield "INSERT INTO language (name) VALUES ('English'), ('Español')"
    for number in range(1, 31):
        rating = ("G", "PG", "PG-13", "R", "NC-17")[number % 5]
        features = ("", "Trailers", "Trailers,Deleted Scenes", "Behind the Scenes")[number % 4]
        yield (
            "INSERT INTO film (title, description, release_year, language_id, rental_rate, length,"
            f" rating, special_features) VALUES ('FILM {number}', 'A tale of {number}',"
            f" {1970 + number}, {1 + number % 2}, {number}.99, {60 + number}, '{rating}',"
            f" '{features}')"
        )
        yield f"INSERT INTO film_actor (actor_id, film_id) VALUES ({1 + number % 3}, {number})"
        yield f"INSERT INTO inventory (film_id, store_id) VALUES ({number}, 1)"
        yield (
            "INSERT INTO rental (rental_date, inventory_id, return_date) VALUES"
            f" ('2005-05-24 22:53:{number:02}', {number}, NULL)"
        )
        yield (
            "INSERT INTO payment (rental_id, amount, payment_date) VALUES"
            f" ({number}, {number}.99, '2005-05-25 11:30:37')"
        )
    yield "INSERT INTO store (manager_staff_id) VALUES (1)"
    yield "INSERT INTO staff (first_name, picture, username) VALUES ('Mike', X'89504E47', 'Mike')"


SAKILA_CHANGES = (
    "UPDATE film SET title = 'CHANGED', rating = 'R', special_features = 'Commentaries'"
    " WHERE film_id <= 3",
    "DELETE FROM film_actor WHERE film_id = 4",
    "UPDATE rental SET return_date = '2005-05-26 22:04:30' WHERE rental_id < 10",
    "UPDATE address SET location = ST_GeomFromText('POINT(1 2)') WHERE address_id = 2",
    "UPDATE staff SET picture = NULL, active = 2",
    "ALTER TABLE film ADD COLUMN original_title VARCHAR(128) DEFAULT NULL AFTER title",
    "UPDATE film SET original_title = 'Le film' WHERE film_id = 5",
    "ALTER TABLE payment MODIFY amount DECIMAL(9,4) NOT NULL",
    "INSERT INTO payment (rental_id, amount, payment_date) VALUES (1, 10000.1234, NOW())",
    # cascades: nothing in the binlog says that these rows have gone, or are others now
    "DELETE FROM actor WHERE actor_id = 3",
    "UPDATE country SET country_id = 9 WHERE country_id = 2",
    "DELETE FROM rental WHERE rental_id = 30",
)


def employees_rows() -> Iterator[str]:
    """INSERTs into an empty employees."""
    yield "INSERT INTO departments VALUES ('d001', 'Marketing'), ('d002', 'Finance')"
    for number in range(10001, 10021):
        year = 1950 + number % 20
        yield (
            f"INSERT INTO employees VALUES ({number}, '{year}-09-02', 'Georgi', 'Facello',"
            f" '{'MF'[number % 2]}', '{year + 30}-06-26')"
        )
        department = f"d00{1 + number % 2}"
        yield (
            f"INSERT INTO dept_emp VALUES ({number}, '{department}', '1986-06-26', '9999-01-01')"
        )
        yield f"INSERT INTO titles VALUES ({number}, 'Senior Engineer', '1986-06-26', NULL)"
        for raised in range(3):
            yield (
                f"INSERT INTO salaries VALUES ({number}, {60000 + raised}, '{1986 + raised}-06-26',"
                f" '{1987 + raised}-06-26')"
            )


EMPLOYEES_CHANGES = (
    "UPDATE salaries SET salary = salary + 1 WHERE emp_no < 10005",
    "UPDATE titles SET to_date = '1999-01-01', title = 'Staff' WHERE emp_no = 10001",
    "DELETE FROM employees WHERE emp_no IN (10019, 10020)",
    "DELETE FROM departments WHERE dept_no = 'd002'",
    "ALTER TABLE employees ADD COLUMN email VARCHAR(80), ALGORITHM=INPLACE, LOCK=NONE",
    "UPDATE employees SET email = CONCAT(emp_no, '@example.com') WHERE emp_no < 10003",
)
