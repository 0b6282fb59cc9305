"""The vocabulary of TechStore: what the generator draws its names and its goods from."""

from __future__ import annotations

_FIRST = (
    "Agustín Agustina Alejandro Andrea Ariel Belén Bruno Camila Carlos Carolina Catalina Cecilia "
    "Claudia Cristian Daniel Daniela Diego Eduardo Emilia Esteban Ezequiel Facundo Federico "
    "Fernanda Fernando Florencia Franco Gabriel Gabriela Gastón Gonzalo Graciela Guadalupe "
    "Guillermo Gustavo Hernán Ignacio Inés Javier Joaquín Jorge José Juan Julia Julieta Karina "
    "Laura Leandro Lorena Lucas Lucía Luciana Luis Malena Marcela Marcelo Marcos María Mariana "
    "Mariano Marina Martín Martina Matías Mauricio Mercedes Micaela Miguel Milagros Nadia Natalia "
    "Nicolás Norma Oscar Pablo Paula Pilar Ramiro Ramón Raúl Rocío Rodrigo Romina Rosa Rubén "
    "Santiago Sebastián Sergio Silvia Sofía Soledad Susana Tomás Valentina Valeria Vanesa "
    "Verónica Victoria Walter Ximena"
)
FIRST_NAMES = _FIRST.split()

_LAST = (
    "Acosta Acuña Aguirre Álvarez Arias Ávila Ayala Barrios Benítez Blanco Bravo Bustos Cabrera "
    "Cáceres Cardozo Carrizo Castillo Castro Coronel Correa Díaz Domínguez Duarte Escobar "
    "Fernández Ferreyra Figueroa Flores Franco García Giménez Godoy Gómez González Gutiérrez "
    "Guzmán Hernández Herrera Ibáñez Juárez Ledesma Leiva López Lucero Luna Maldonado Mansilla "
    "Martínez Medina Méndez Mendoza Miranda Molina Morales Moreno Moyano Muñoz Navarro Núñez "
    "Ojeda Ortiz Páez Paz Peralta Pereyra Pérez Ponce Quiroga Ramírez Ramos Reynoso Ríos Rivero "
    "Robledo Rodríguez Rojas Roldán Romero Ruiz Salinas Sánchez Silva Soria Sosa Soto Suárez "
    "Toledo Torres Valdez Vargas Vázquez Vega Velázquez Vera Villalba Yáñez Zárate"
)
LAST_NAMES = _LAST.split()

MAIL_DOMAINS = (
    ("gmail.example", 55),
    ("hotmail.example", 18),
    ("yahoo.example", 12),
    ("outlook.example", 10),
    ("correo.example", 5),
)

# city, province, area code, weight
CITIES = (
    ("Ciudad Autónoma de Buenos Aires", "Ciudad Autónoma de Buenos Aires", "11", 270),
    ("La Plata", "Buenos Aires", "221", 50),
    ("Mar del Plata", "Buenos Aires", "223", 45),
    ("Quilmes", "Buenos Aires", "11", 40),
    ("Lomas de Zamora", "Buenos Aires", "11", 38),
    ("Morón", "Buenos Aires", "11", 32),
    ("San Isidro", "Buenos Aires", "11", 32),
    ("Vicente López", "Buenos Aires", "11", 28),
    ("Bahía Blanca", "Buenos Aires", "291", 24),
    ("Córdoba", "Córdoba", "351", 85),
    ("Río Cuarto", "Córdoba", "358", 14),
    ("Rosario", "Santa Fe", "341", 70),
    ("Santa Fe", "Santa Fe", "342", 24),
    ("Mendoza", "Mendoza", "261", 42),
    ("San Miguel de Tucumán", "Tucumán", "381", 34),
    ("Salta", "Salta", "387", 24),
    ("Neuquén", "Neuquén", "299", 22),
    ("Paraná", "Entre Ríos", "343", 18),
    ("Corrientes", "Corrientes", "379", 16),
    ("Resistencia", "Chaco", "362", 16),
    ("Posadas", "Misiones", "376", 15),
    ("San Juan", "San Juan", "264", 15),
    ("San Salvador de Jujuy", "Jujuy", "388", 11),
    ("San Luis", "San Luis", "266", 9),
    ("Santa Rosa", "La Pampa", "2954", 7),
    ("San Carlos de Bariloche", "Río Negro", "294", 12),
    ("Comodoro Rivadavia", "Chubut", "297", 10),
    ("Ushuaia", "Tierra del Fuego", "2901", 6),
)

WAREHOUSES = ("CABA", "Córdoba", "Rosario")

# name, country, usual lead time in days, share of late shipments
SUPPLIERS = (
    ("Distribuidora Andina S.A.", "Argentina", 3, 0.05),
    ("Mayorista del Plata S.R.L.", "Argentina", 2, 0.04),
    ("Electrónica Pampeana S.A.", "Argentina", 4, 0.09),
    ("Importadora Cuyo S.A.", "Argentina", 6, 0.14),
    ("TecnoSur Mayorista S.R.L.", "Argentina", 5, 0.07),
    ("Grupo Litoral Tecnología S.A.", "Argentina", 4, 0.11),
    ("Patagonia Digital S.A.", "Argentina", 8, 0.22),
    ("Fueguina Electrónica S.A.", "Argentina", 9, 0.18),
    ("Insumos Ñandú S.R.L.", "Argentina", 3, 0.06),
    ("Compañía Serrana de Informática S.A.", "Argentina", 5, 0.10),
    ("Comercial Rioplatense S.A.", "Uruguay", 7, 0.13),
    ("Montevideo Componentes S.A.", "Uruguay", 8, 0.16),
    ("Eletrônica Paulista Ltda.", "Brasil", 12, 0.19),
    ("Importações Sul Ltda.", "Brasil", 14, 0.27),
    ("Santiago Tech Mayorista SpA", "Chile", 10, 0.15),
    ("Pacific Trade Iquique SpA", "Chile", 15, 0.31),
    ("Shenzhen Brightway Electronics Co.", "China", 35, 0.24),
    ("Miami Latin Supply Corp.", "Estados Unidos", 18, 0.12),
)

CARRIERS = (
    ("Correo Pampa", 30),
    ("Cruz del Oeste", 24),
    ("Envíos Ñandubay", 18),
    ("Logística Austral", 16),
    ("Moto Express CABA", 12),
)

# topic, weight, what customers write ({p} is the product)
TICKETS: tuple[tuple[str, int, tuple[str, ...]], ...] = (
    (
        "envío",
        30,
        (
            "Todavía no llegó {p}, ¿cuándo lo entregan?",
            'El correo dice "domicilio cerrado" pero había gente en casa todo el día.',
            "El código de seguimiento no funciona | ya probé tres veces.",
            'Llegó a la mañana, la caja decía "frágil" y venía golpeada | adjunto fotos.',
            "Pedí entrega en el barrio Ñuñorco y lo llevaron a otra sucursal.",
        ),
    ),
    (
        "producto fallado",
        22,
        (
            "{p} no funciona; probé toda la tarde y nada, ¿qué hago?",
            'La pantalla de {p} muestra "no signal" | cambié el cable y sigue igual.',
            "Hace un ruido extraño desde que lo saqué de la caja.",
            'El vendedor me dijo "es normal", pero se calienta muchísimo.',
        ),
    ),
    (
        "factura",
        15,
        (
            "Necesito factura A | CUIT de mi compañía ya cargado en el perfil.",
            'La factura salió a nombre de "Peña Hnos." y debería ser a mi nombre.',
            "No recibí la factura por correo electrónico, ¿la reenvían?",
        ),
    ),
    (
        "devolución",
        15,
        (
            "Quiero devolver {p}: era un regalo de cumpleaños y ya lo tenía.",
            'Me arrepentí de la compra | uso el "botón de arrepentimiento" dentro de los 10 días.',
            "¿Adónde envío el producto? La sucursal de Güemes está cerrada.",
        ),
    ),
    (
        "pago",
        12,
        (
            "Me cobraron dos veces | una con débito y otra con crédito.",
            'Pagué con transferencia y sigue figurando "pendiente".',
            "El cupón del Hot Sale no se aplicó, ¿me reintegran la diferencia?",
        ),
    ),
    (
        "consulta",
        6,
        (
            "¿{p} tiene garantía oficial en Argentina?",
            'El manual viene sólo en inglés; ¿hay uno en "español"?',
            "¿Sirve con 220 V | o necesito un transformador?",
        ),
    ),
)

CHANNELS = (("web", 40), ("whatsapp", 34), ("email", 18), ("teléfono", 8))
